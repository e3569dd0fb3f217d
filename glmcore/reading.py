"""Reading what a user's folder or option names: regular files alone, bounded in size and depth. Imports no torch.

A pipe, a device or an endless file in place of one is an ``OSError`` in a moment, never a wait: nothing but a regular
file is opened, and the descriptor is asked once more what it is.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from glmcore.errors import GlmError

# Python's own objects take up to 30 times the text. The index of the largest published model has 100 KB.
JSON_LIMIT = 16 << 20
DEPTH = 64  # lists within lists; what is deeper exhausts the stack of whoever walks through it
FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading. Errors: OSError, also for whatever is none."""
    try:
        _check_regular(os.stat(path), path)  # opening a device may have an effect
        descriptor = os.open(path, FLAGS)
    except ValueError:  # a null character, or half a character, in the name
        raise OSError(errno.EINVAL, "no name of a file", str(path)) from None
    file = open(descriptor, "rb")  # noqa: SIM115
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: str | Path, limit: int) -> bytes:
    """The whole of a regular file of at most ``limit`` bytes. Errors: OSError, also for a larger one."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
    return content


def parse_json(content: bytes | str, limit: int = JSON_LIMIT) -> Any:
    """The value of a JSON text. Errors: ValueError, also for one too long or deep, and for half characters."""
    if len(content) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level, depth = [value], 0
    while level:
        if depth > DEPTH:
            raise ValueError("nested too deeply")
        level, depth = [part for whole in level for part in _parts(whole)], depth + 1
    return value


def _parts(value: Any) -> list[Any]:
    if isinstance(value, str) and not value.isascii():
        value.encode()  # UnicodeEncodeError, a ValueError, for a surrogate that stands alone
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


def read_json(path: Path, code: str) -> dict[str, Any]:
    """A JSON object from ``path``.

    Errors: GlmError with ``code`` for anything else, "checkpoint-lfs-pointer" or "checkpoint-html" for what lies there
    in its place, "checkpoint-missing-file", and "model-path" for what cannot be read.
    """
    try:
        data = read_bytes(path, JSON_LIMIT)
    except FileNotFoundError:
        raise GlmError("checkpoint-missing-file", f"{path.name} is missing", where=str(path.parent)) from None
    except OSError as error:
        raise GlmError("model-path", f"{path.name} cannot be read: {error.strerror}", where=str(path)) from None
    if data.startswith(b"version https://git-lfs"):
        raise GlmError(
            "checkpoint-lfs-pointer",
            f"{path.name} is a Git LFS pointer",
            where=str(path),
            hint="fetch it with `git lfs pull`",
        )
    if data.lstrip()[:1] == b"<":
        raise GlmError(
            "checkpoint-html", f"{path.name} is a web page", where=str(path), hint="download the file itself"
        )
    try:
        value = parse_json(data)
    except ValueError as error:
        raise GlmError(code, f"{path.name} is not valid JSON ({error})", where=str(path)) from None
    if not isinstance(value, dict):
        raise GlmError(code, f"{path.name} holds no JSON object", where=str(path))
    return value
