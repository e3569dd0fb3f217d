"""One writer a folder: a second run is refused, and told who writes there. Imports no torch."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from glmcore.errors import GlmError
from glmcore.reading import read_bytes

LOCK = ".glmcore.lock"  # its content names the holder
CONTENT_LIMIT = 1000


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other run writes into ``folder`` during the block. The lock's file goes where the block ends well.

    (Where it does not, the folder is unfinished, and a file that others may have open must not make way for another.)
    Errors: GlmError("write-failed") that says who writes there, OSError.
    """
    path = folder / LOCK
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise GlmError("write-failed", f"{LOCK} is no lock of glmcore's", where=str(folder), hint="take it away")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise GlmError(
            "write-failed", f"another run is writing into this folder ({_holder(path)})", where=str(folder),
            hint="let it end, or choose another folder",
        ) from None  # fmt: skip
    except NotImplementedError:
        what = "the file system of this folder knows no locks"
        raise GlmError("write-failed", what, where=str(folder), hint="choose another disk") from None
    try:
        path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
        path.unlink()
    finally:
        lock.release()


def _holder(path: Path) -> str:
    with suppress(OSError):
        return read_bytes(path, CONTENT_LIMIT).decode("utf-8", "replace") or "just started"
    return "just started"
