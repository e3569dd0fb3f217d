"""The command line: one policy for interrupts, closed pipes and bugs; commands load when they are named."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

INTERRUPTED = 130
CRASHED = 3


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run ``glmdoctor`` and leave with its exit status; whatever goes wrong is one line on standard error."""
    try:
        status = _run(arguments)
    except KeyboardInterrupt:
        print("glmdoctor: interrupted", file=sys.stderr)
        status = INTERRUPTED
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
        error.show()
        return error.exit_code
    finally:
        output.finish()


def _described(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
