"""Advice for a person: what nobody should have done for them silently, with the commands for this very machine."""

from __future__ import annotations

from glmdoctor.findings import Finding, Remedy
from glmdoctor.knowledge import problems
from glmdoctor.messages import Translated
from glmdoctor.readings.machine import Machine
from glmdoctor.remedies.answer import Answer, Case, Root, is_root, written


def advise(finding: Finding, answer: Answer, host: Machine) -> tuple[Remedy, ...]:
    """The catalogue's advice on the finding's problem, or that on its case."""
    if finding.problem is None or finding.problem not in problems():  # a plugin's brings its own remedies
        return ()
    if answer.case:
        return (_remedy(answer.case(finding, host), host),)
    said = problems()[finding.problem].remedy
    title = Translated(said["en"], translations=said)
    return (_remedy(Case(finding.problem, title, answer.advice(finding, host)), host),)


def _remedy(case: Case, host: Machine) -> Remedy:
    root = any(isinstance(command, Root) for command in case.commands) and not is_root(host)
    lines = tuple(written(command, host) for command in case.commands)
    return Remedy(f"advice-{case.id}", case.title, automatic=False, needs_root=root, reversible=False, commands=lines)
