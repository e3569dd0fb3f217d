"""A repair in rounds: causes first, then what is left of their consequences, and last the shell's start file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glmdoctor.findings import Finding, Status
from glmdoctor.remedies import Plan
from glmdoctor.repair.executor import Confirm, Outcome, Prepared, Result, Treatment, prepare
from glmdoctor.repair.session import Repair

ROUNDS = 3  # what follows from a cause is looked at again after the cause
# Shows what is about to be done: plans, findings that none answers, and the number of the first plan.
Announce = Callable[[Sequence[Prepared], Sequence[Finding], int], None]


def planned(work: Repair) -> tuple[Plan, ...]:
    """Every plan at once, for reading."""
    plans = work.plans()
    last = work.start_file(plans) if work.choice.start_file else None
    return (*plans, last) if last else plans


def treat(work: Repair, treatment: Treatment, confirm: Confirm, announce: Announce) -> list[Result]:
    """Carry out the plans, each announced before, then those for what is left of the consequences."""
    results: list[Result] = []
    for number in range(1, ROUNDS + 1):
        work.examine(work.variables() if results else {})
        plans = work.plans(besides=[result.prepared.plan for result in results])
        prepared = prepare(plans, work.disk, f"{treatment.run}-{number}")
        if prepared or not results:
            announce(prepared, () if results else work.beyond(plans), len(results) + 1)
        if not prepared:
            break
        results += [treatment.carry_out(plan, confirm, work.holds) for plan in prepared]
    return results


def for_every_shell(
    work: Repair,
    treatment: Treatment,
    confirm: Confirm,
    announce: Announce,
    results: Sequence[Result],
    answerable: bool,
) -> list[Result]:
    """The shell's start file: where it was asked for, else by a question of its own where somebody can answer it."""
    done = [result.prepared.plan for result in results if result.outcome is Outcome.REPAIRED and result.prepared.steps]
    ask = done and answerable and not work.choice.named
    plan = work.start_file(done) if work.choice.start_file or ask else None
    prepared = prepare([plan] if plan else [], work.disk, f"{treatment.run}-shell")
    if prepared:
        announce(prepared, (), len(results) + 1)
    return [treatment.carry_out(each, confirm, lambda plan: True) for each in prepared]


def exit_status(results: Sequence[Result], beyond: Sequence[Finding], named: bool) -> int:
    """1 where a chosen repair does not hold, or a failure has none, or a warning that was asked for by name."""
    broken = any(result.outcome in (Outcome.NOT_REPAIRED, Outcome.FAILED) for result in results)
    return int(broken or any(named or finding.status is Status.FAIL for finding in beyond))
