"""``glmdoctor check``: examine this machine; change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from glmdoctor.cli import options, output
from glmdoctor.reports import FORMATS

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis


@click.command()
@options.model
@options.selection
@options.python
@options.kernel_file
@options.snapshot
@click.option("--deep", is_flag=True, help="Also run a kernel on each device, measure memory, hash the weights.")
@click.option("--ray", metavar="ADDRESS", help="Examine every node of the Ray cluster there (auto, HOST:PORT).")
@click.option("--format", "form", type=click.Choice(FORMATS), default="terminal", help="The form of the report.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@options.language
@click.pass_context
def check(
    context: click.Context,
    model: str | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    python: str | None,
    kernel_file: str | None,
    snapshot: str | None,
    deep: bool,
    ray: str | None,
    form: str,
    as_json: bool,
    lang: str | None,
) -> None:
    """Examine this machine; change nothing.

    Exit status: 0 nothing failed (warnings allowed), 1 at least one failure, 2 wrong usage, 3 a check crashed.
    """
    form = "json" if as_json else form
    language = output.language(lang, ascii_safe=form == "json")
    if ray is not None:
        options.alone("--ray", only, skip, python, kernel_file, snapshot, deep)
        from glmdoctor.cli.nodes import check_nodes

        context.exit(check_nodes(ray, model, form, language))
    diagnosis = options.diagnosed(model, python, kernel_file, snapshot, only, skip, deep)
    output.emit(rendered(diagnosis, form, language))
    if form == "github":
        write_job_summary(diagnosis, language)
    context.exit(diagnosis.report.exit_status)


def rendered(diagnosis: Diagnosis, form: str, language: str) -> str:
    """The report, for the terminal or pipe that standard output is."""
    if form != "terminal":
        from glmdoctor import reports

        return reports.render(form, diagnosis, language)
    from glmdoctor.reports import terminal

    return output.laid_out(terminal.lines(diagnosis, language, output.can_print(terminal.SIGNS)))


def write_job_summary(diagnosis: Diagnosis, language: str) -> None:
    """In a GitHub job the Markdown report goes to the job's summary page too."""
    import os

    from glmdoctor.reports import markdown

    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as summary:
            summary.write(markdown.render(diagnosis, language))
    except OSError as error:
        output.note(f"cannot write the job summary: {error}")
