"""Hashes of files, remembered: what has not been touched since is not read again. Imports no torch.

Twelve gigabytes of weights take ten seconds to hash, so what a file's hash was is kept in the user's cache beside what
the system says of the file: device, number, size, and when its content and it itself last changed (which no program
can set back).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from glmcore.folders import user_folder
from glmcore.output import replacing
from glmcore.reading import JSON_LIMIT, open_regular, parse_json, read_bytes

BLOCK = 1 << 20
# Younger files may change again within the clock's tick: what is remembered of them would not tell.
SETTLED_NS = 2_000_000_000
MOST_REMEMBERED = 2000
REMEMBERED_BYTES = 16 << 20  # smaller files are hashed in milliseconds


@dataclass(frozen=True)
class FileSum:
    """A file's size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


def sum_of(path: str | Path) -> FileSum:
    """Size and SHA-256 of a regular file, from what is remembered of it where that still holds. Errors: OSError."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size < REMEMBERED_BYTES:
            content = file.read()
            return FileSum(len(content), hashlib.sha256(content).hexdigest())
        known, key = _remembered(), _key(status)
        if isinstance(before := known.get(key), str):
            return FileSum(status.st_size, before)
        digest, size = hashlib.sha256(), 0
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
        after = os.fstat(file.fileno())
    if _key(after) == key and _settled(after):
        _remember({**known, key: digest.hexdigest()})
    return FileSum(size, digest.hexdigest())


def _key(status: os.stat_result) -> str:
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return ":".join(map(str, parts))


def _settled(status: os.stat_result) -> bool:
    import time

    return time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS


def _file() -> Path | None:
    folder = user_folder("cache", "glmcore")
    return None if folder is None else Path(folder, "hashes.json")


def _remembered() -> dict[str, object]:
    path = _file()
    if path is None:
        return {}
    try:
        found = parse_json(read_bytes(path, JSON_LIMIT))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(known: dict[str, object]) -> None:
    """Keep the youngest; where nothing can be kept, files are hashed again."""
    path = _file()
    if path is None:
        return
    youngest = dict(list(known.items())[-MOST_REMEMBERED:])
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(youngest).encode())
