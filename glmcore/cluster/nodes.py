"""What a node's facts mean: whether it may get anything of this model, and if not, why and what to run there. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from glmcore.cluster.fingerprints import differences
from glmcore.errors import plain
from glmcore.plan import Device
from glmcore.plan.cluster.nodes import USUAL, Link
from glmcore.plan.devices import is_cpu

NAMED = 3  # files that are named; the others are counted


# Kind of a verdict → why the node gets nothing, and what to do there: templates of the verdict's values.
REASONS = {
    "absent": ("{why}", "see that the machine is there, and that Ray runs on it"),
    "silent": ("{why}", "install glmcore there, in the Python that started Ray"),
    "versions": ("{name} {found} is there, {wanted} here", "install the same versions on all nodes"),
    "files-none": ("{why}", "copy the checkpoint to the same path"),
    "files-missing": ("the checkpoint there lacks {files}", "copy the checkpoint to the same path"),
    "files-other": ("the checkpoint there has another {files}", "copy the checkpoint to the same path"),
    "no-report": ("the doctor gave no report there: {why}", "run glmdoctor check there"),
    "unhealthy": ("{why}", "{fix}"),
}


@dataclass(frozen=True)
class Verdict:
    """Whether a node may get anything. ``kind``: one of REASONS, "" where nothing is against it."""

    kind: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def against(self) -> str:
        """Why it gets nothing; "" where it may get something."""
        return REASONS[self.kind][0].format(**self.values) if self.kind else ""

    @property
    def fix(self) -> str:
        """What to do there."""
        return REASONS[self.kind][1].format(**self.values) if self.kind else ""


def verdict(kind: str, **values: str) -> Verdict:
    """Its values made safe to show: another machine wrote them."""
    return Verdict(kind, {name: plain(value) for name, value in values.items()})


@dataclass(frozen=True)
class Node:
    """A node that was examined. ``id`` is Ray's, ``facts`` are those of ``probe.facts``, or {"error": …} of its
    Python, or {"absent": …} where nothing came back."""

    id: str
    name: str
    address: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict = Verdict()
    cpus: float = 0.0  # that Ray was told it has
    gpus: float = 0.0
    link: Link = USUAL

    @property
    def host(self) -> str:
        return plain(self.facts.get("host", ""), 60)

    @property
    def threads(self) -> int:
        """Cores, or fewer where Ray was told that it has fewer."""
        return max(1, min(int(self.facts.get("threads", 1)), int(self.cpus) or 1))

    @property
    def devices(self) -> list[Device]:
        """Its cards, or the first of them where Ray was told that it has fewer, and its CPU."""
        found = [Device(each["name"], each["budget"], each["bandwidth"]) for each in self.facts.get("devices", ())]
        cards = [device for device in found if not is_cpu(device.name)]
        return [device for device in found if device not in cards[int(self.gpus) :]]

    @property
    def state(self) -> str:
        """The doctor's verdict; "unreachable" where it gave none."""
        return str(self.facts.get("report", {}).get("verdict", "unreachable"))

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.name, "id": self.id, "address": self.address, "host": self.host, "verdict": self.state,
            "against": self.verdict.against or None, "fix": self.verdict.fix or None,
            "versions": self.facts.get("versions", {}), "threads": self.threads,
            "devices": [asdict(device) for device in self.devices],
            "link": {"bytes_per_s": round(self.link.bandwidth), "latency_s": round(self.link.latency, 6)},
        }  # fmt: skip


def judged(
    facts: Mapping[str, Any], reference: Mapping[str, Any], model: str | None, *, kernel: bool = False
) -> Verdict:
    """What is against a node, by its facts and the front's own ("versions", "files"). The first reason counts.

    kernel: whether the model is to run through the CPU's kernel, be it quantised only while it is loaded.
    """
    if "absent" in facts:
        return verdict("absent", why=facts["absent"])
    if "error" in facts:
        return verdict("silent", why=facts["error"])
    return (
        other_versions(facts["versions"], reference["versions"])
        or files_differ(facts["files"], reference["files"])
        or unhealthy(facts["report"], model)
        or (without_kernel(facts, model) if kernel else None)
        or Verdict()
    )


def other_versions(own: Mapping[str, str], reference: Mapping[str, str]) -> Verdict | None:
    """Python may differ in its last number."""
    for name, wanted in reference.items():
        found = own.get(name, "none")
        cut = (lambda version: version.rpartition(".")[0]) if name == "python" else str
        if cut(found) != cut(wanted):
            return verdict("versions", name=name, found=found, wanted=wanted)
    return None


def files_differ(own: Mapping[str, str], reference: Mapping[str, str]) -> Verdict | None:
    if "error" in own:
        return verdict("files-none", why=own["error"])
    missing, other = differences(own, reference)
    if missing:
        return verdict("files-missing", files=named(missing))
    return verdict("files-other", files=named(other)) if other else None


def named(files: list[str]) -> str:
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more


def unhealthy(report: Mapping[str, Any], model: str | None) -> Verdict | None:
    """By the doctor's report: a failure is against the node, and its root cause is the reason."""
    if "error" in report:
        return verdict("no-report", why=report["error"])
    cause = root_cause(report)
    if report["verdict"] != "broken" or cause is None:
        return None
    return verdict("unhealthy", why=cause["title"], fix=fix_of(cause, model))


def without_kernel(facts: Mapping[str, Any], model: str | None) -> Verdict | None:
    """Without it torch would compute on a node's CPU: much longer, and other bits than the other nodes have."""
    bad = {each["id"]: each for each in facts["report"]["findings"] if each["status"] in ("fail", "warn")}
    if "kernel.build" not in bad or any(not is_cpu(device["name"]) for device in facts["devices"]):
        return None
    cause = bad.get("compiler.found", bad["kernel.build"])
    return verdict("unhealthy", why=cause["title"], fix=fix_of(cause, model))


def root_cause(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first failure that no other explains; else the first warning of that kind."""
    for status in ("fail", "warn"):
        found: list[Mapping[str, Any]] = report.get("findings", [])
        bad = [finding for finding in found if finding["status"] == status]
        for finding in (*filter(lambda each: each["root_cause"], bad), *bad):
            return finding
    return None


def fix_of(finding: Mapping[str, Any], model: str | None) -> str:
    """The command to run on the node, or in words what to do there."""
    remedies = finding["remedies"]
    if any(remedy["automatic"] for remedy in remedies):
        return f"glmdoctor fix --model {shlex.quote(model)}" if model else "glmdoctor fix"
    return "; ".join(command for remedy in remedies[:1] for command in remedy["commands"] or [remedy["title"]])
