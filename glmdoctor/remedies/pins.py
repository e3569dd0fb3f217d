"""Versions of packages that a finding asks for, for pip to solve and the user to allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from glmdoctor.actions.packages import InstallPackages
from glmdoctor.findings import Finding
from glmdoctor.messages import text
from glmdoctor.readings.machine import Machine
from glmdoctor.remedies import answer_to
from glmdoctor.remedies.answer import Pip
from glmdoctor.remedies.plan import Plan

VALUED = ("--index-url", "--extra-index-url")  # options of pip among the arguments, each with its value
SOLVED = "python.together"  # its one line satisfies all others


def wanted(findings: Iterable[Finding], host: Machine) -> dict[str, tuple[str, ...]]:
    """Finding's id → pip's arguments; the set that was solved as a whole where there is one."""
    asked: dict[str, tuple[str, ...]] = {}
    for finding in findings:
        if arguments := _arguments(finding, host):
            asked[finding.id] = (*asked.get(finding.id, ()), *arguments)
    return {SOLVED: asked[SOLVED]} if SOLVED in asked else asked


def _arguments(finding: Finding, host: Machine) -> tuple[str, ...]:
    commands = answer_to(finding).advice(finding, host)
    return tuple(argument for command in commands if isinstance(command, Pip) for argument in command.arguments)


def options(arguments: Sequence[str]) -> tuple[str, ...]:
    """Where pip is told to look, out of its arguments: the way back looks there too."""
    pairs = pairwise(arguments)
    return tuple(part for name, value in pairs if name in VALUED for part in (name, value))


def plan(
    python: str,
    arguments: Sequence[str],
    solved: Mapping[str, str],
    present: Mapping[str, str],
    findings: Sequence[str],
) -> Plan | None:
    """``solved``: what pip would install, name → version; ``present``: what is installed."""
    changed = {name: version for name, version in solved.items() if present.get(name) != version}
    if not changed:
        return None
    pins = tuple(f"{name}=={version}" for name, version in changed.items())
    former = tuple(f"{name}=={present[name]}" for name in changed if name in present)
    action = InstallPackages(python, pins, former, options(arguments))
    title = text("Install {pins} with {python}", pins=", ".join(pins), python=python)
    return Plan("install-packages", title, tuple(findings), (action,), own_question=True)
