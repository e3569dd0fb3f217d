"""``glmdoctor fix``: examine, repair what the findings allow, and check each repair again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from glmdoctor.cli import options, output
from glmdoctor.messages import Text, text

if TYPE_CHECKING:
    from glmdoctor.executor import Confirm, Prepared, Result, Treatment
    from glmdoctor.journal import Store
    from glmdoctor.repair import Repair

USAGE = 2
ROUNDS = 3  # what follows from a cause is looked at again after the cause


@click.command()
@click.option("--symlink", is_flag=True, help="Mend the links, folders and the cache by which libcuda is found.")
@click.option("--kernel", is_flag=True, help="Build, verify and place the CPU kernel for quantised models.")
@options.only
@options.python
@options.model
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan and the results as JSON.")
@options.language
@click.pass_context
def fix(
    context: click.Context,
    symlink: bool,
    kernel: bool,
    only: tuple[str, ...],
    python: str | None,
    model: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    lang: str | None,
) -> None:
    """Repair what the findings allow, and check each repair.

    Everything that will be done is printed first, and `glmdoctor undo` takes it back.

    Exit status: 0 every chosen repair holds or there was nothing to repair, 1 something could not be repaired,
    2 wrong usage.
    """
    from glmdoctor import repair

    language = output.language(lang, ascii_safe=as_json)
    with one_line_each(context, language):
        work = repair.Repair(repair.Choice(symlink, kernel, only, python, model))
        # On Windows there are no links and no loader's cache to mend: what can be done there is advice.
        only_say = dry_run or sys.platform == "win32"
        confirm = asked(context, language, yes)
        context.exit(rehearse(work, language, as_json) if only_say else carry_out(work, language, as_json, confirm))


@contextmanager
def one_line_each(context: click.Context, language: str) -> Iterator[None]:
    """Refusals and failures of the journal, each as one line with exit status 1."""
    from glmdoctor.journal import Damaged, NoHome
    from glmdoctor.recovery import Refused

    try:
        yield
    except Refused as refused:
        output.note(refused.reason.render(language))
    except NoHome:
        output.note(text("this user has no home folder for the journal; set HOME").render(language))
    except Damaged as damaged:
        output.note(text("the journal {path} is damaged; nothing was done", path=damaged.path).render(language))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        output.note(text("the repair stopped: {what}", what=where + (error.strerror or str(error))).render(language))
    else:
        return
    context.exit(1)


def rehearse(work: Repair, language: str, as_json: bool) -> int:
    """Examine and print; no lock, no journal, no change."""
    from glmdoctor.cli import repairs
    from glmdoctor.executor import prepare

    work.examine()
    plans = work.plans()
    prepared, beyond = prepare(plans, work.disk, "RUN"), work.beyond(plans)
    output.emit(
        repairs.as_json(prepared, beyond, None, (), language)
        if as_json
        else repairs.announced(prepared, beyond, language) + text("Dry run: nothing was changed.").render(language)
    )
    return repairs.exit_status((), beyond, work.choice.named)


def carry_out(work: Repair, language: str, as_json: bool, confirm: Confirm) -> int:
    """Examine, print, ask, repair, and print what became of it."""
    from glmdoctor import executor, journal
    from glmdoctor.cli import repairs

    run = journal.new_id()
    with executor.locked(work.disk, journal.state_folder()) as store:
        recovered(store, language)
        with executor.Treatment(store, run) as treatment:
            results = treat(work, treatment, confirm, None if as_json else language)
    beyond = work.beyond(result.prepared.plan for result in results)
    output.emit(
        repairs.as_json([result.prepared for result in results], beyond, run, results, language)
        if as_json
        else repairs.outcome(run, results, language)
    )
    return repairs.exit_status(results, beyond, work.choice.named)


def treat(work: Repair, treatment: Treatment, confirm: Confirm, language: str | None) -> list[Result]:
    """Carry out the plans, then those for what is left of the consequences; printed first where there is a language."""
    from glmdoctor.cli import repairs
    from glmdoctor.executor import prepare

    results: list[Result] = []
    for number in range(1, ROUNDS + 1):
        work.examine(work.variables() if results else {})
        plans = work.plans(besides=[result.prepared.plan for result in results])
        prepared = prepare(plans, work.disk, f"{treatment.run}-{number}")
        if language and (prepared or not results):
            beyond = () if results else work.beyond(plans)
            output.emit(repairs.announced(prepared, beyond, language, first=len(results) + 1))
        if not prepared:
            break
        results += [treatment.carry_out(plan, confirm, work.holds) for plan in prepared]
    return results


def recovered(store: Store, language: str) -> list[str]:
    """Roll back the runs that were killed, and say which."""
    from glmdoctor.recovery import recover

    done = recover(store)
    for undone in done:
        output.note(text("the repair {run} was interrupted and has been rolled back", run=undone.run).render(language))
        for path in undone.stay:
            output.note(text("{path} was left as it is: others changed it since", path=path).render(language))
    return [undone.run for undone in done]


def asked(context: click.Context, language: str, yes: bool) -> Confirm:
    """The question before each plan, on standard error; where nobody can answer it, the end of the command."""

    def confirm(prepared: Prepared) -> bool:
        if not yes and not sys.stdin.isatty():
            output.note(text("there is no terminal to ask on; --yes repairs without asking").render(language))
            context.exit(USAGE)
        question: Text = text("{title}: do it?", title=prepared.plan.title)
        return yes or click.confirm(question.render(language), default=True, err=True)

    return confirm
