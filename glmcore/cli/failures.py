"""Any failure as the one line that users see."""

from __future__ import annotations

import errno
import sys

import click

from glmcore.errors import GlmError
from glmcore.output import remedy, written_at


def told(error: Exception) -> GlmError:
    """``error`` with a code of ours; under ``--debug`` its traceback goes to standard error before."""
    if "--debug" in sys.argv:
        import traceback  # here, since it is rarely wanted

        traceback.print_exception(error)
    if isinstance(error, GlmError):
        return error
    if isinstance(error, click.ClickException):
        words = error.format_message().replace("is not a valid integer range", "is no whole number")
        return GlmError("usage", words.rstrip("."), hint="see --help")
    if isinstance(error, ModuleNotFoundError):
        return missing(error.name or "a package")
    if isinstance(error, MemoryError):
        return GlmError("memory-short", str(error) or "out of memory", hint="try --quant int4")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        what = "no space left on the disk"
        return GlmError("write-failed", what, where=written_at(error), hint=remedy(error))
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return GlmError("internal", what, hint="--debug shows where; please report it")


def missing(module: str) -> GlmError:
    from glmcore.extras import install_hint

    return GlmError("packages-missing", f"{module} is not installed", hint=install_hint(module))
