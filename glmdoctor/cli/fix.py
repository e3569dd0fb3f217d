"""``glmdoctor fix``: examine, repair what the findings allow, and check each repair again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from glmdoctor.cli import options, output
from glmdoctor.messages import Text, text

if TYPE_CHECKING:
    from glmdoctor.findings import Finding
    from glmdoctor.repair.executor import Confirm, Prepared
    from glmdoctor.repair.journal import Store
    from glmdoctor.repair.recovery import Aside, Undone
    from glmdoctor.repair.session import Repair

USAGE = 2
DRY_RUN = text("Dry run: nothing was changed.")
ON_WINDOWS = text("On Windows glmdoctor changes nothing: what is planned is for you to do.")


class Recovered(NamedTuple):
    """What came before the command's own work: the runs rolled back, and whether all of it went well."""

    runs: tuple[str, ...]
    whole: bool


@click.command()
@click.option("--symlink", is_flag=True, help="Mend the links, folders and the cache by which libcuda is found.")
@click.option("--kernel", is_flag=True, help="Build, verify and place the CPU kernel for quantised models.")
@click.option("--packages", is_flag=True, help="Install the versions that findings ask for, as pip solves them.")
@click.option("--start-file", is_flag=True, help="Set CUDA_PATH and CUDA_HOME in the shell's start file too.")
@options.only
@options.python
@options.model
@click.option("--script", metavar="FILE", help="Write the plan as a shell script to FILE (- for standard output).")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan and the results as JSON.")
@options.language
@click.pass_context
def fix(
    context: click.Context,
    symlink: bool,
    kernel: bool,
    packages: bool,
    start_file: bool,
    only: tuple[str, ...],
    python: str | None,
    model: str | None,
    script: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    lang: str | None,
) -> None:
    """Repair what the findings allow, and check each repair.

    Without options every repair is proposed and asked for, one by one. Everything that will be done is printed first,
    and `glmdoctor undo` takes it back. On Windows nothing is changed: the plan and the advice are printed, as with
    --dry-run.

    Exit status: 0 every chosen repair holds or there was nothing to repair, 1 something could not be repaired,
    2 wrong usage.
    """
    from glmdoctor.repair import session

    language = output.language(lang, ascii_safe=as_json)
    with one_line_each(context, language):
        work = session.Repair(session.Choice(symlink, kernel, packages, start_file, only, python, model))
        if script is not None:
            context.exit(written(work, language, script))
        system = work.host.io.system
        if symlink and system != "Linux":
            linux_only = text(
                "the links of libcuda and the linker's cache are Linux's: {system} has none", system=system
            )
            output.note(linux_only.render(language))
        if dry_run or system == "Windows":
            why = DRY_RUN if dry_run else ON_WINDOWS
            context.exit(rehearse(work, language, as_json, why, wanted=not dry_run))
        context.exit(carry_out(work, language, as_json, asked(context, language, yes)))


@contextmanager
def one_line_each(context: click.Context, language: str) -> Iterator[None]:
    """Refusals and failures of the journal, each as one line with exit status 1."""
    from glmdoctor.repair.journal import NoHome
    from glmdoctor.repair.recovery import Refused

    try:
        yield
    except Refused as refused:
        for reason in (refused.reason, *refused.more):
            output.note(reason.render(language))
    except NoHome:
        output.note(text("this user has no home folder for the journal; set HOME").render(language))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        output.note(text("the repair stopped: {what}", what=where + (error.strerror or str(error))).render(language))
    else:
        return
    context.exit(1)


def rehearse(work: Repair, language: str, as_json: bool, why: Text, *, wanted: bool) -> int:
    """Examine and print, and ``why`` no more is done: no lock, no journal, no change."""
    from glmdoctor.repair import rounds
    from glmdoctor.repair.executor import prepare
    from glmdoctor.reports import repairs

    work.examine()
    plans = rounds.planned(work)
    prepared, beyond = prepare(plans, work.disk, "RUN"), work.beyond(plans)
    output.emit(
        repairs.as_json(prepared, beyond, None, (), language)
        if as_json
        else repairs.announced(prepared, beyond, language) + why.render(language)
    )
    undone = wanted and any(each.steps for each in prepared)
    return int(undone) or rounds.exit_status((), beyond, work.choice.named)


def written(work: Repair, language: str, file: str) -> int:
    """The plan as a shell script; no lock, no journal, no change."""
    from glmdoctor.repair import rounds
    from glmdoctor.repair.executor import prepare
    from glmdoctor.repair.journal import new_id
    from glmdoctor.reports import script

    work.examine()
    plans = rounds.planned(work)
    prepared, beyond = prepare(plans, work.disk, new_id()), work.beyond(plans)
    content = script.script(prepared, beyond, language)
    if file == "-":
        output.emit_bytes(content.encode("utf-8", "surrogateescape"))
    else:
        output.write_file(file, content, errors="surrogateescape")
    return rounds.exit_status((), beyond, work.choice.named)


def carry_out(work: Repair, language: str, as_json: bool, confirm: Confirm) -> int:
    """Examine, print, ask, repair, and print what became of it."""
    from glmdoctor.repair import executor, journal, rounds
    from glmdoctor.reports import repairs

    def announce(plans: Sequence[Prepared], beyond: Sequence[Finding], first: int) -> None:
        if not as_json:
            output.emit(repairs.announced(plans, beyond, language, first))

    run, answerable = journal.new_id(), not as_json and sys.stdin.isatty()
    with executor.locked(work.disk, journal.state_folder()) as store:
        recovered(store, language)
        with executor.Treatment(store, run) as treatment:
            results = rounds.treat(work, treatment, confirm, announce)
            results += rounds.for_every_shell(work, treatment, confirm, announce, results, answerable)
    beyond = work.beyond(result.prepared.plan for result in results)
    output.emit(
        repairs.as_json([result.prepared for result in results], beyond, run, results, language)
        if as_json
        else repairs.outcome(run, results, language)
    )
    return rounds.exit_status(results, beyond, work.choice.named)


def recovered(store: Store, language: str) -> Recovered:
    """Put damaged journals aside and roll back the runs that were killed; say which, and what is as before."""
    from glmdoctor.repair.recovery import put_aside, recover

    aside = put_aside(store)
    for each in aside:
        for line in _aside(each):
            output.note(line.render(language))
    done = recover(store)
    for undone in done:
        for line in _rolled_back(undone):
            output.note(line.render(language))
    whole = not any(each.place for each in aside) and not any(undone.lost for undone in done)
    return Recovered(tuple(undone.run for undone in done), whole)


def _aside(aside: Aside) -> Iterator[Text]:
    """What is wrong with a journal, what can still be read of it, and what to do."""
    damaged = aside.damaged
    yield text("the journal {path} cannot be followed: {why}", path=damaged.path, why=damaged.why)
    if damaged.newer:
        return
    if aside.place:
        yield text("it is kept as {place}; nothing of its repair was taken back", place=aside.place)
    else:
        yield text("it could not be put aside; nothing of its repair was taken back")
    for step in damaged.known.standing:
        yield text("it still says: {what}", what=step.action.describe(step.changes))
    yield text("files that it replaced lie in their folders as .glmdoctor-{run}-…", run=damaged.known.id)
    yield text("`glmdoctor check` says whether this machine is as it should be")


def _rolled_back(undone: Undone) -> Iterator[Text]:
    if undone.restored or not undone.lost:
        yield text("the repair {run} was interrupted and has been rolled back", run=undone.run)
    else:
        yield text("the repair {run} was interrupted and could not be rolled back", run=undone.run)
    yield from (text("{path} is as before", path=path) for path in undone.restored)
    yield from not_as_before(undone)


def not_as_before(undone: Undone) -> Iterator[Text]:
    """Each path that is not as before, and why."""
    yield from (text("{path} was left as it is: others changed it since", path=path) for path in undone.stay)
    yield from undone.lost.values()


def asked(context: click.Context, language: str, yes: bool) -> Confirm:
    """The question before each plan, on standard error; where nobody can answer it, the end of the command.

    "All" holds for the plans after it, but for those with a question of their own; "quit" declines the rest.
    """
    standing: list[bool] = []

    def confirm(prepared: Prepared) -> bool:
        own = prepared.plan.own_question
        if not yes and not sys.stdin.isatty():
            output.note(text("there is no terminal to ask on; --yes repairs without asking").render(language))
            context.exit(USAGE)
        if yes or (standing and not (own and standing[0])):
            return yes or standing[0]
        answer = _answer(prepared, language, "n" if own else "y")
        if answer in ("a", "q"):
            standing[:] = [answer == "a"]
        return answer in ("y", "a")

    return confirm


def _answer(prepared: Prepared, language: str, default: str) -> str:
    """y, n, a or q."""
    question: Text = text("{title}: do it? (yes, no, all, quit)", title=prepared.plan.title)
    choice = click.Choice(["y", "n", "a", "q", "yes", "no", "all", "quit"], case_sensitive=False)
    given = click.prompt(question.render(language), default=default, type=choice, show_choices=False, err=True)
    return str(given)[0].lower()
