"""``glmdoctor undo``: take a repair back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from glmdoctor.cli import options, output
from glmdoctor.cli.fix import one_line_each, recovered
from glmdoctor.messages import text

if TYPE_CHECKING:
    from glmdoctor.journal import Store


@click.command()
@click.argument("run", required=False)
@options.language
@click.pass_context
def undo(context: click.Context, run: str | None, lang: str | None) -> None:
    """Take back the repair RUN (the latest by default): every link, file and folder is as it was before.

    A repair that was interrupted is rolled back first. Exit status: 0 done or nothing to take back, 1 refused because
    others changed something since, 2 wrong usage.
    """
    from glmdoctor import executor, journal
    from glmdoctor.disk import Disk
    from glmdoctor.host.io import RealIO

    language = output.language(lang)
    io = RealIO()
    if io.system == "Windows":
        output.note(text("there is nothing to take back: glmdoctor changes nothing on Windows").render(language))
        context.exit(0)
    with one_line_each(context, language), executor.locked(Disk(io.root), journal.state_folder()) as store:
        context.exit(take_back(store, run, language))


def take_back(store: Store, run: str | None, language: str) -> int:
    """Undo and say what is as before; without RUN an interrupted repair is all that is taken back."""
    from glmdoctor import recovery

    interrupted = recovered(store, language)
    if run in interrupted or (run is None and interrupted):
        return 0
    if run is not None and run not in store.ids():
        raise click.UsageError(text("there is no repair {run}", run=run).render(language))
    undone = recovery.undo(store, run)
    if undone is None:
        output.note(text("there is nothing to take back").render(language))
        return 0
    head = text("The repair {run} has been taken back; as before are:", run=undone.run).render(language)
    left = (text("{path} was left as it is: others changed it since", path=path) for path in undone.stay)
    output.emit("\n".join([head, *undone.restored, *(line.render(language) for line in left)]))
    return 0
