"""From a finding to what can be done about it: a plan for `glmdoctor fix`, or advice. Nothing is done here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from glmdoctor.findings import Finding, Remedy
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies import advice, checkpoint, compiler, containers, driver, gpu_health, hub, libcuda, packages
from glmdoctor.remedies.answer import Answer, Beyond
from glmdoctor.remedies.plan import Options, Plan

__all__ = ["Beyond", "Options", "Plan", "answer_to", "asked_by", "beyond", "plan", "plans", "propose"]

ANSWERS: Mapping[str, Answer] = {
    **driver.ANSWERS,
    **containers.ANSWERS,
    **gpu_health.ANSWERS,
    **libcuda.ANSWERS,
    **packages.ANSWERS,
    **compiler.ANSWERS,
    **checkpoint.ANSWERS,
    **hub.ANSWERS,
}


def answer_to(finding: Finding) -> Answer:
    """The row of the finding's problem; an empty one where there is nothing to do but to read."""
    return ANSWERS.get(finding.problem or "", Answer())


def asked_by(option: str) -> frozenset[str]:
    """The problems that an option of `fix` is about."""
    return frozenset(problem for problem, row in ANSWERS.items() if row.option == option)


def beyond(what: Beyond, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings whose plan needs ``what``."""
    return tuple(finding for finding in findings if answer_to(finding).beyond is what)


def plan(finding: Finding, host: Machine, *, options: Options) -> Plan | None:
    """The repair of a finding that can be carried out and taken back."""
    found = (planner(finding, host, options) for planner in answer_to(finding).plan)
    return next((plan for plan in found if plan), None)


def plans(findings: Iterable[Finding], host: Machine, *, options: Options) -> tuple[Plan, ...]:
    """A plan for each finding that has one; findings that the same actions answer share it."""
    merged: dict[tuple[object, ...], Plan] = {}
    for finding in findings:
        found = plan(finding, host, options=options)
        if found:
            key = (found.actions, tuple(found.environment.items()))
            first = merged.setdefault(key, found)
            merged[key] = replace(first, findings=tuple(dict.fromkeys((*first.findings, *found.findings))))
    return tuple(merged.values())


def propose(finding: Finding, host: Machine) -> tuple[Remedy, ...]:
    """What to do about a finding, the best first: the plan `fix` would carry out, then advice with commands to read."""
    found = plan(finding, host, options=_likely(host))
    automatic = (_remedy(found, finding),) if found else ()
    return (*automatic, *advice.advise(finding, answer_to(finding), host))


def _remedy(found: Plan, finding: Finding) -> Remedy:
    option = answer_to(finding).option or f"--only {finding.id}"
    shell = () if found.actions else found.commands  # lines that hold without anything being done first
    return Remedy(found.id, found.title, True, found.needs_root, True, (f"glmdoctor fix {option}", *shell))


def _likely(host: Machine) -> Options:
    """What `fix` will most likely be able to do: as root anything, else only what lies in the user's own folder."""
    state, os = maybe(host.state), maybe(host.os)
    known = state.private_cuda if state else None
    private = known.removesuffix("/cuda") if known else "~/.local/share/glmdoctor"
    return Options(private, lambda folder: bool(os and os.effective_uid == 0))
