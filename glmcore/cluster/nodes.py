"""What a node's facts mean: whether it may get anything of this model, and if not, why and what to run there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glmcore.cluster.fingerprints import differences
from glmcore.errors import plain
from glmcore.plan import Device

NAMED = 3  # files that are named; the others are counted


@dataclass(frozen=True)
class Verdict:
    """``against``: why the node gets nothing, else ""; ``fix``: what to do there."""

    against: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Node:
    """A node that was examined. ``id`` is Ray's, ``facts`` are those of ``probe.facts``, or {"error": …}."""

    id: str
    name: str
    address: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict = Verdict()
    cpus: float = 0.0  # that Ray was told it has
    hop_s: float | None = None  # seconds that a hidden state takes from the front to it

    @property
    def host(self) -> str:
        return plain(self.facts.get("host", ""), 60)

    @property
    def threads(self) -> int:
        """Cores, or fewer where Ray was told that it has fewer."""
        return max(1, min(int(self.facts.get("threads", 1)), int(self.cpus) or 1))

    @property
    def devices(self) -> list[Device]:
        return [Device(each["name"], each["budget"], each["bandwidth"]) for each in self.facts.get("devices", ())]

    @property
    def state(self) -> str:
        """The doctor's verdict; "unreachable" where it gave none."""
        return str(self.facts.get("report", {}).get("verdict", "unreachable"))

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.name, "id": self.id, "address": self.address, "host": self.host, "verdict": self.state,
            "against": self.verdict.against or None, "fix": self.verdict.fix or None,
            "versions": self.facts.get("versions", {}), "threads": self.threads,
            "devices": [dict(each) for each in self.facts.get("devices", ())],
        }  # fmt: skip


def judged(facts: Mapping[str, Any], reference: Mapping[str, Any], model: str | None) -> Verdict:
    """What is against a node, by its facts and the front's own ("versions", "files"). The first reason counts."""
    if "error" in facts:
        return Verdict(plain(facts["error"]), "is glmcore installed there, in the Python that started Ray?")
    versions = other_versions(facts["versions"], reference["versions"])
    if versions:
        return Verdict(versions, "install the same versions on all nodes")
    return files_differ(facts["files"], reference["files"]) or unhealthy(facts["report"], model)


def other_versions(own: Mapping[str, str], reference: Mapping[str, str]) -> str:
    """Python may differ in its last number."""
    for name, wanted in reference.items():
        found, compared = own.get(name, "none"), wanted
        if name == "python":
            found, compared = found.rpartition(".")[0], wanted.rpartition(".")[0]
        if found != compared:
            return plain(f"{name} {own.get(name, 'none')} is there, {wanted} here")
    return ""


def files_differ(own: Mapping[str, str], reference: Mapping[str, str]) -> Verdict | None:
    if "error" in own:
        return Verdict(plain(own["error"]), "put the checkpoint where it lies here")
    missing, other = differences(own, reference)
    if missing:
        return Verdict(f"lacks {named(missing)}", "copy the checkpoint to the same path")
    if other:
        return Verdict(f"has another {named(other)}", "copy the checkpoint to the same path")
    return None


def named(files: list[str]) -> str:
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return plain(", ".join(files[:NAMED])) + more


def unhealthy(report: Mapping[str, Any], model: str | None) -> Verdict:
    """By the doctor's report: a failure is against the node, and its root cause is the reason."""
    if "error" in report:
        return Verdict(f"the doctor gave no report there: {plain(report['error'])}", "glmdoctor check")
    if report["verdict"] != "broken":
        return Verdict()
    cause = root_cause(report)
    return Verdict(plain(cause["title"]), fix_of(cause, model)) if cause else Verdict("the doctor calls it broken")


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
        return plain(f"glmdoctor fix --model {model}" if model else "glmdoctor fix")
    return plain("; ".join(command for remedy in remedies[:1] for command in remedy["commands"] or [remedy["title"]]))
