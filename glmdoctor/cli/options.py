"""Options that several commands share, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import click

from glmdoctor.cli import output

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis
    from glmdoctor.host.host import Host

Decorator = Callable[[Any], Any]
ANYWAY = "glmdoctor.anyway"

model: Decorator = click.option(
    "--model", metavar="DIR_OR_NAME", help="A checkpoint folder or a model's name to check for."
)
kernel_file: Decorator = click.option("--kernel-file", metavar="FILE", help="A compiled CPU kernel to try.")
snapshot: Decorator = click.option(
    "--snapshot", metavar="FILE", help="Examine the machine that `glmdoctor snapshot` wrote to FILE, not this one."
)
language: Decorator = click.option("--lang", type=click.Choice(["en", "zh"]), help="Language; else the locale's.")


def _interpreter(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """An absolute path (links kept: a virtual environment is known by its link), or a usage error."""
    if value is None:
        return None
    from glmcore import programs

    found = programs.which(os.path.expanduser(value))
    if found is None:
        raise click.BadParameter(f"{value} is no program that can be run", context, parameter)
    _for_root(context, parameter, found)
    return found


def _for_root(context: click.Context, parameter: click.Parameter, path: str) -> None:
    """Refuse what root would run out of another user's hands, unless it is wanted all the same."""
    from glmcore.folders import is_root, who_else

    if not is_root() or context.meta.get(ANYWAY):
        return
    places = (os.path.realpath(os.path.dirname(path)), os.path.realpath(path))
    doubt = next(filter(None, map(who_else, places)), None)
    if doubt:
        raise click.BadParameter(f"{path} is not run as root: {doubt} (--anyway does it)", context, parameter)


def _anyway(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[ANYWAY] = value


def python(command: Any) -> Any:
    """``--python``, and ``--anyway`` for one that root would not run."""
    named = click.option("--python", metavar="PATH", callback=_interpreter, help="The Python interpreter to examine.")
    anyway = click.option(
        "--anyway", is_flag=True, is_eager=True, expose_value=False, callback=_anyway,
        help="As root: examine a --python that another user could change.",
    )  # fmt: skip
    return named(anyway(command))


def _known(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Ids of checks, or of problems for the checks that decide them."""
    if values:
        from glmdoctor import checks
        from glmdoctor.checks.engine import UnknownCheck, select

        try:
            select(checks.every(), values)
        except UnknownCheck as error:
            raise click.BadParameter(str(error), context, parameter) from error
    return values


only: Decorator = click.option(
    "--only", multiple=True, metavar="ID", callback=_known, help="Look at this check or problem alone."
)


def selection(command: Any) -> Any:
    """``--only`` and ``--skip``, each as often as wanted."""
    skip = click.option("--skip", multiple=True, metavar="ID", callback=_known, help="Leave this check out.")
    return only(skip(command))


def host(model: str | None, python: str | None, kernel_file: str | None, snapshot: str | None = None) -> Host:
    """The machine to examine: this one, or that in a snapshot file. Raises ``UsageError`` where both are asked for."""
    output.hear_glmcore()
    if snapshot is None:
        from glmdoctor.diagnosis import this_host

        return this_host(model=model, python=python, kernel_file=kernel_file)
    if model or python or kernel_file:
        raise click.UsageError(
            "--snapshot is a machine that was recorded: --model, --python and --kernel-file do not apply"
        )
    return _replayed(snapshot)


def _replayed(path: str) -> Host:
    import json

    from glmdoctor.host.host import Host

    try:
        with open(path, encoding="utf-8") as file:
            return Host.from_snapshot(json.load(file))
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise click.UsageError(f"{path} is not a snapshot that `glmdoctor snapshot` wrote ({error!r})") from error


def alone(option: str, *others: object) -> None:
    """``UsageError`` where something is asked for that is a matter of one machine."""
    if any(others):
        raise click.UsageError(f"{option} goes with --model, --format and --lang alone")


def diagnosed(
    model: str | None,
    python: str | None,
    kernel_file: str | None,
    snapshot: str | None = None,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    deep: bool = False,
) -> Diagnosis:
    """The chosen machine with its findings. Raises ``UsageError`` where ``python`` is no Python interpreter."""
    from glmdoctor.diagnosis import judge
    from glmdoctor.host.facts import Unknown

    machine = host(model, python, kernel_file, snapshot)
    with output.progress() as machine.progress:
        diagnosis = judge(machine, only=only, skip=skip, deep=deep)
    examined = diagnosis.host.interpreter
    if python is not None and isinstance(examined, Unknown):
        raise click.UsageError(f"{python} does not answer as a Python interpreter: {examined.reason}")
    return diagnosis
