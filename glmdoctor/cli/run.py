"""``glmdoctor run -- COMMAND …``: check, repair nothing, then start COMMAND with the repaired environment."""

from __future__ import annotations

import click

from glmdoctor.cli import options, output
from glmdoctor.cli.launch import start


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@options.model
@options.python
@options.kernel_file
@options.language
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    model: str | None,
    python: str | None,
    kernel_file: str | None,
    lang: str | None,
    command: tuple[str, ...],
) -> None:
    """Check, repair nothing, then start COMMAND with the environment that repairs give it.

    What failed is said on standard error, and COMMAND starts all the same; the exit status is COMMAND's own.
    """
    from glmdoctor.diagnosis import judge
    from glmdoctor.findings import Status
    from glmdoctor.repair import environment
    from glmdoctor.reports.view import entries, shown

    language = output.language(lang)
    host = options.host(model, python, kernel_file)
    diagnosis = judge(environment.applied(host))
    for entry in entries(diagnosis.report):
        if entry.finding.status is Status.FAIL:
            output.note(f"{shown(entry.finding.title, language)} [{entry.finding.id}]")
    context.exit(start(command, environment.repaired(host)))
