"""``glmdoctor snapshot``: this machine's facts, redacted; a file that ``glmdoctor check --snapshot`` replays."""

from __future__ import annotations

import os

import click

from glmdoctor.cli import options, output


@click.command()
@click.option("-o", "--output", "path", metavar="FILE", help="Write to FILE; else to standard output.")
@options.model
@options.python
@options.kernel_file
@click.pass_context
def snapshot(
    context: click.Context, path: str | None, model: str | None, python: str | None, kernel_file: str | None
) -> None:
    """Write this machine's facts as JSON, without names of people and machines, keys and addresses.

    Paths stay, since the replay follows them; home folders lose their names. The file belongs into a bug report;
    `glmdoctor check --snapshot FILE` examines the machine again from it.
    """
    from glmdoctor.reports.json import dumps

    if path is not None and os.path.isdir(path):
        raise click.UsageError(f"{path} is a folder; give the name of a file", context)
    facts = dumps(options.host(model, python, kernel_file, None).to_snapshot())
    if path is None:
        output.emit(facts)
    else:
        output.write_file(path, facts + "\n")
