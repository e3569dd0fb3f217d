"""One examination from beginning to end: facts, findings, remedies."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmdoctor import checks, remedies
from glmdoctor.checks.engine import select
from glmdoctor.findings import Finding, Report

if TYPE_CHECKING:
    from glmdoctor.host.host import Host

# Facts that every report's head shows, whatever checks were chosen.
HEAD_FACTS = ("os", "cpu", "memory", "interpreter", "torch", "kernel_driver")


@dataclass(frozen=True)
class Diagnosis:
    """A machine and what was found on it."""

    host: Host
    report: Report


def diagnose(
    *,
    model: str | None = None,
    python: str | None = None,
    kernel_file: str | None = None,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    deep: bool = False,
) -> Diagnosis:
    """Examine this machine; changes nothing."""
    return judge(this_host(model=model, python=python, kernel_file=kernel_file), only=only, skip=skip, deep=deep)


def this_host(*, model: str | None = None, python: str | None = None, kernel_file: str | None = None) -> Host:
    from glmdoctor.host.host import Host

    return Host(interpreter=python, model=model, kernel_file=kernel_file)


def judge(host: Host, *, only: Collection[str] = (), skip: Collection[str] = (), deep: bool = False) -> Diagnosis:
    """Findings with their remedies, from the facts of ``host`` (a real machine or a replayed snapshot)."""
    host.gather(name for name in needed_facts(only, skip) if name in host.quick())
    report = checks.examine(host, only=tuple(only), skip=tuple(skip), deep=deep)
    return Diagnosis(host, Report(tuple(_with_remedies(finding, host) for finding in report.findings)))


def needed_facts(only: Collection[str] = (), skip: Collection[str] = ()) -> tuple[str, ...]:
    """The facts that the chosen checks and the report's head need."""
    needs = (fact for check in select(checks.every(), only, skip, deep=True) for fact in check.needs)
    return tuple(dict.fromkeys([*HEAD_FACTS, *needs]))


def _with_remedies(finding: Finding, host: Host) -> Finding:
    if not finding.bad or finding.remedies:
        return finding
    return dataclasses.replace(finding, remedies=tuple(remedies.propose(finding, host)))
