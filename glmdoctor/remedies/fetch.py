"""Files of a checkpoint that are missing or damaged, fetched again: gigabytes, so only where that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from glmdoctor.actions import FetchFile
from glmdoctor.findings import Finding
from glmdoctor.messages import text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.checkpoint import hub_name
from glmdoctor.remedies.plan import Plan


class Wanted(NamedTuple):
    """A file of the checkpoint: where it really lies, and the sha256 that something here records of it."""

    name: str
    path: str
    sha256: str | None


def names(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The files that the findings name."""
    found: dict[str, None] = {}
    for finding in findings:
        files = finding.evidence.get("files")
        if isinstance(files, (list, tuple, Mapping)):
            found.update(dict.fromkeys(str(file) for file in files))
    return tuple(name for name in found if " / " not in name)  # "model.safetensors / pytorch_model.bin": either of them


def plan(wanted: Sequence[Wanted], host: Machine, findings: Sequence[str]) -> Plan | None:
    checkpoint = maybe(host.checkpoint)
    repository = hub_name(checkpoint) if checkpoint else None
    if repository is None or not wanted:
        return None
    actions = tuple(FetchFile(file.path, file.name, repository, file.sha256) for file in wanted)
    listed = ", ".join(file.name for file in wanted)
    title = text("Fetch {files} from {repository}", files=listed, repository=repository)
    return Plan("fetch-files", title, tuple(dict.fromkeys(findings)), actions, own_question=True)
