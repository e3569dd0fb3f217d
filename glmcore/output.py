"""Writing a result where the user says: a file whole or not at all, anything else as it is. Imports no torch."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from glmcore.errors import GlmError

PART = ".glm-{}.part"  # of a file that is being written; the name belongs to one writer alone
# No terminal that a device would bring along; a pipe that nobody reads is refused instead of waited for.
INTO = getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0)


def remedy(error: OSError) -> str:
    """What a user can do about what could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or choose another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a folder that you may write to"
    return "choose another folder"


def written_at(error: OSError) -> str:
    """The file that could not be written: where two are named, as in copying, the second; "" where none is."""
    return str(error.filename2 or error.filename or "")


def write_text(path: str | Path, text: str, *, errors: str = "backslashreplace") -> None:
    """Write ``text`` as UTF-8, as `write_bytes` does; what UTF-8 lacks is written as JSON has it (``\\udc80``)."""
    write_bytes(path, text.encode("utf-8", errors))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` where it is absent or a regular file; else (device, pipe, link) write into it.

    A regular file keeps its permissions, a new one has the umask's; no part of it is ever seen, or left by a full disk.
    Errors: GlmError("write-failed") that names the file.
    """
    try:
        if _replaceable(path):
            with replacing(path) as file:
                file.write(content)
        else:
            _write_into(path, content)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        what = getattr(error, "strerror", None) or str(error)
        hint = remedy(error) if isinstance(error, OSError) else "choose another name"
        raise GlmError("write-failed", f"could not write: {what}", where=str(path), hint=hint) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends well, and is gone when it does not.

    Errors: OSError.
    """
    part = os.path.join(os.path.dirname(path), PART.format(secrets.token_hex(8)))
    file = open(part, "xb")  # noqa: SIM115 (closed below; its name is ours from here on)
    try:
        with file:
            with suppress(FileNotFoundError):
                os.chmod(part, stat.S_IMODE(os.stat(path).st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def _replaceable(path: str | Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and _own_stream(path) is None
    except FileNotFoundError:
        return True


def _own_stream(path: str | Path) -> int | None:
    """The descriptor of standard output or error where ``path`` is the same file (as /dev/stdout is)."""
    for stream in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(stream)):
                return stream
    return None


def _write_into(path: str | Path, content: bytes) -> None:
    with _opened(path) as file:
        file.write(content)


def _opened(path: str | Path) -> BinaryIO:
    own = _own_stream(path)
    if own is not None:  # opened a second time, it would be written from its beginning
        print(end="", flush=True)  # also where standard output is closed
        return open(os.dup(own), "wb")
    file = open(path, "wb", opener=lambda name, flags: os.open(name, flags | INTO, 0o666))  # noqa: SIM115
    if INTO:
        os.set_blocking(file.fileno(), True)
    return file
