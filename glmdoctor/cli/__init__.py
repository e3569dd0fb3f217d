"""The command line: one policy for interrupts, closed pipes and bugs; commands load when they are named."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from glmcore.errors import plain
from glmcore.programs import begin_outside

if TYPE_CHECKING:
    import click

INTERRUPTED = 130
CRASHED = 3


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run ``glmdoctor`` and leave with its exit status; whatever goes wrong is one line on standard error."""
    begin_outside()
    try:
        status = _run(arguments)
    except KeyboardInterrupt:
        _leave_interrupted()
    except Exception as error:
        if os.environ.get("GLMDOCTOR_DEBUG"):
            raise
        print(f"glmdoctor: internal error: {_described(error)} (GLMDOCTOR_DEBUG=1 shows where)", file=sys.stderr)
        status = CRASHED
    sys.exit(status)


def _run(arguments: list[str] | None) -> int:
    import click

    from glmdoctor.cli import output
    from glmdoctor.cli.application import application

    output.prepare()
    try:
        status = application.main(arguments, prog_name="glmdoctor", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        output.note(_one_line(error))
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENOSPC:  # what click itself says, as --help, on a full disk
            raise
        output.note(f"cannot write: {error.strerror}")
        return 1
    finally:
        output.finish()


def _one_line(error: click.ClickException) -> str:
    """What is wrong, and for wrong usage where the right one stands."""
    import click

    message = " ".join(error.format_message().split())
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{message.rstrip('.')} (see `{error.ctx.command_path} --help`)"


def _leave_interrupted() -> NoReturn:
    """After the probes under way have cleaned up; the interpreter itself would die of the signal, without a status."""
    import threading

    print("glmdoctor: interrupted", file=sys.stderr, flush=True)
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(timeout=5)
    os._exit(INTERRUPTED)


def _described(error: Exception) -> str:
    return plain(f"{type(error).__name__}: {error}")
