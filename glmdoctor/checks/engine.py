"""Runs checks apart from each other and says which findings are causes and which only consequences."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches

from glmdoctor.checks.base import Check, Machine, not_looked_at
from glmdoctor.findings import Finding, Report, Status
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import Text, text

_SEVERITY = {Status.FAIL: 2, Status.WARN: 1}
_ORDER = (Status.FAIL, Status.WARN, Status.CRASHED, Status.UNKNOWN, Status.OK, Status.SKIPPED)


class UnknownCheck(ValueError):
    """An id that is neither a check's nor that of a problem which a check decides."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.close = tuple(get_close_matches(name, sorted(known), n=3, cutoff=0.5))
        super().__init__(str(self.message))

    @property
    def message(self) -> Text:
        if self.close:
            return text("There is no check {name}; did you mean {close}?", name=self.name, close=", ".join(self.close))
        return text("There is no check {name}; `glmdoctor list` shows all of them.", name=self.name)


def select(
    checks: Sequence[Check], only: Iterable[str] = (), skip: Iterable[str] = (), deep: bool = False
) -> tuple[Check, ...]:
    """The checks in ``only`` (all, where it is empty) less those in ``skip``; a problem's id stands for its checks.

    Deep checks are left out unless ``deep`` is said or ``only`` names them by their own ids.
    """
    named = tuple(only)
    wanted, unwanted = _ids(checks, named), _ids(checks, skip)
    chosen = (c for c in checks if (not wanted or c.id in wanted) and c.id not in unwanted)
    return tuple(c for c in chosen if deep or not c.deep or c.id in named)


def _ids(checks: Sequence[Check], names: Iterable[str]) -> set[str]:
    chosen: set[str] = set()
    for name in names:
        matching = {c.id for c in checks if name == c.id or name in c.problems}
        if not matching:
            raise UnknownCheck(name, {c.id for c in checks}.union(*(c.problems for c in checks)))
        chosen |= matching
    return chosen


def examine_with(checks: Sequence[Check], host: Machine) -> Report:
    found = [(check, finding) for check in checks for finding in run_one(check, host)]
    return Report(tuple(_order(_link(found))))


def run_one(check: Check, host: Machine) -> list[Finding]:
    """A check's findings; whatever breaks inside it becomes a finding and stops nothing else."""
    findings: list[Finding] = []
    try:
        for name in check.needs:
            fact = getattr(host, name)
            if isinstance(fact, Unknown):
                return [replace(not_looked_at(check.title, fact), id=check.id)]
        findings.extend(replace(finding, id=check.id) for finding in check.run(host))
    except (Exception, SystemExit) as error:
        findings.append(_crash(check, error))
    return findings


def _stamp(check: Check, status: Status, detail: Text, **evidence: object) -> Finding:
    return Finding(check.id, status, check.title, detail, evidence=evidence)


def _crash(check: Check, error: BaseException) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return _stamp(
        check,
        Status.CRASHED,
        text("This check itself broke ({error}); please report it.", error=f"{type(error).__name__}: {error}"),
        error=f"{type(error).__name__}: {error}",
        where=f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}",
    )


def _link(found: Sequence[tuple[Check, Finding]]) -> list[Finding]:
    """Name each bad finding's causes. A warning never explains a failure, and nothing explains its own cause."""
    causes: dict[int, list[int]] = {}
    for i, (check, finding) in enumerate(found):
        for j, (_, other) in enumerate(found):
            if _explains(other, finding, check) and not _reaches(j, i, causes):
                causes.setdefault(i, []).append(j)
    return [
        replace(
            finding,
            root_cause=finding.bad and i not in causes,
            caused_by=tuple(dict.fromkeys(found[j][1].id for j in causes.get(i, ()))),
        )
        for i, (_, finding) in enumerate(found)
    ]


def _explains(cause: Finding, finding: Finding, check: Check) -> bool:
    return (
        finding.bad
        and cause.bad
        and cause.id != finding.id
        and cause.problem in (*check.explained_by, *finding.follows_from)
        and _SEVERITY[cause.status] >= _SEVERITY[finding.status]
    )


def _reaches(start: int, target: int, causes: dict[int, list[int]]) -> bool:
    """Is ``target`` already among the causes of ``start``, near or far?"""
    return any(cause == target or _reaches(cause, target, causes) for cause in causes.get(start, ()))


def _order(findings: Sequence[Finding]) -> list[Finding]:
    """By status, each root cause followed by its consequences, every finding once."""
    ordered: list[Finding] = []

    def place(finding: Finding) -> None:
        if any(finding is placed for placed in ordered):
            return
        ordered.append(finding)
        if finding.bad:
            for other in findings:
                if finding.id in other.caused_by:
                    place(other)

    for status in _ORDER:
        for finding in findings:
            if finding.status is status and not finding.caused_by:
                place(finding)
    return ordered
