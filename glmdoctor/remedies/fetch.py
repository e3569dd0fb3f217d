"""Files of a checkpoint that are missing or damaged, fetched again: gigabytes, so only where that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from glmdoctor.actions import FetchFile
from glmdoctor.findings import Files, Finding
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
    named = (finding.payload.names for finding in findings if isinstance(finding.payload, Files))
    return tuple(dict.fromkeys(chain.from_iterable(named)))


def plan(wanted: Sequence[Wanted], host: Machine, findings: Sequence[str]) -> Plan | None:
    checkpoint = maybe(host.checkpoint)
    repository = hub_name(checkpoint) if checkpoint else None
    if repository is None or not wanted:
        return None
    actions = tuple(FetchFile(file.path, file.name, repository, file.sha256) for file in wanted)
    listed = ", ".join(file.name for file in wanted)
    title = text("Fetch {files} from {repository}", files=listed, repository=repository)
    return Plan("fetch-files", title, tuple(dict.fromkeys(findings)), actions, own_question=True)
