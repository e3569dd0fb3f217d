"""``glmdoctor chat``: check, then hand over to ``glmcore chat`` with the kernel and the environment that were found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from glmcore import programs
from glmdoctor.cli import options, output
from glmdoctor.cli.launch import start
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import text

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis
    from glmdoctor.host.host import Host


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--anyway", is_flag=True, help="Start the chat even where a check fails.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def chat(context: click.Context, anyway: bool, arguments: tuple[str, ...]) -> None:
    """Check this machine, then start `glmcore chat` with ARGUMENTS.

    All ARGUMENTS are glmcore's own (`glmcore chat --help`); --model and --kernel-file are checked for as well.
    A failing check stops it with the remedy (exit status 1).
    """
    from glmdoctor.diagnosis import judge
    from glmdoctor.repair import environment

    model, kernel_file = value_of("--model", arguments), value_of("--kernel-file", arguments)
    host = options.host(model, None, kernel_file)
    diagnosis = judge(environment.applied(host))
    if diagnosis.report.exit_status == 1:
        refuse(diagnosis)
        if not anyway:
            context.exit(1)
    else:
        checked = text("{count} checks, nothing failed; starting the chat", count=len(diagnosis.report.findings))
        output.note(checked.render(output.language(None)))
    command = programs.with_packages(interpreter(diagnosis.host), "-m", "glmcore", "chat", *arguments)
    if kernel_file is None:
        command += found_kernel(diagnosis.host)
    variables = environment.repaired(host)
    # The chat stays in the user's folder, and must not load a library out of it.
    context.exit(start(command, {**variables, **programs.folder_lists({**os.environ, **variables})}))


def value_of(option: str, arguments: tuple[str, ...]) -> str | None:
    """The value that ``option`` has among another program's arguments."""
    for i, argument in enumerate(arguments):
        if argument == option and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(option + "="):
            return argument.split("=", 1)[1]
    return None


def refuse(diagnosis: Diagnosis) -> None:
    """Say on standard error what failed and what helps."""
    from glmdoctor.reports import terminal

    language = output.language(None)
    output.complain(terminal.failures(diagnosis, language))
    output.note(text("`glmdoctor fix` repairs what it can; `glmdoctor chat --anyway` goes on").render(language))


def interpreter(host: Host) -> str:
    examined = host.interpreter
    return host.python if isinstance(examined, Unknown) else examined.executable


def found_kernel(host: Host) -> list[str]:
    """The compiled kernel, unless the environment names one already."""
    build = host.kernel_build
    if host.kernel_file or isinstance(build, Unknown) or not build.ok or build.path is None:
        return []
    return ["--kernel-file", build.path]
