"""``glmdoctor undo``: take a repair back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from glmdoctor.cli import options, output
from glmdoctor.cli.fix import not_as_before, one_line_each, recovered
from glmdoctor.messages import text

if TYPE_CHECKING:
    from glmdoctor.repair.journal import Store


@click.command()
@click.argument("run", required=False)
@options.language
@click.pass_context
def undo(context: click.Context, run: str | None, lang: str | None) -> None:
    """Take back the repair RUN (the latest by default): every link, file and folder is as it was before.

    A repair that was interrupted is rolled back first, and a damaged journal is put aside. Exit status: 0 done or
    nothing to take back, 1 something is not as before (each path and the reason are printed) or nothing was undone
    because others changed something since, 2 wrong usage.
    """
    from glmdoctor.actions.disk import Disk
    from glmdoctor.host.io import RealIO
    from glmdoctor.repair import executor, journal

    language = output.language(lang)
    io = RealIO()
    if io.system == "Windows":
        output.note(text("there is nothing to take back: glmdoctor changes nothing on Windows").render(language))
        context.exit(0)
    with one_line_each(context, language), executor.locked(Disk(io.root), journal.state_folder()) as store:
        context.exit(take_back(store, run, language))


def take_back(store: Store, run: str | None, language: str) -> int:
    """Undo and say what is as before; without RUN an interrupted repair is all that is taken back."""
    from glmdoctor.repair import recovery

    former = recovered(store, language)
    if run in former.runs or (run is None and (former.runs or not former.whole)):
        return int(not former.whole)
    if run is not None and run not in store.ids():
        return _no_such(store, run, language)
    undone = recovery.undo(store, run)
    if undone is None:
        output.note(text("there is nothing to take back").render(language))
        return 0
    done = text("The repair {run} has been taken back; as before are:", run=undone.run)
    in_part = text("The repair {run} has been taken back in part; as before are:", run=undone.run)
    left = (line.render(language) for line in not_as_before(undone))
    output.emit("\n".join([(in_part if undone.lost else done).render(language), *undone.restored, *left]))
    return int(bool(undone.lost))


def _no_such(store: Store, run: str, language: str) -> int:
    aside = store.aside(run)
    if not aside:
        raise click.UsageError(text("there is no repair {run}", run=run).render(language))
    output.note(
        text("the journal of {run} is damaged, and was put aside as {place}", run=run, place=aside[-1]).render(language)
    )
    return 1
