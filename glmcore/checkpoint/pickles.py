"""What a pickle would call, read from its opcodes; nothing is executed. Imports no torch."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# Modules whose names belong into a file of tensors.
EXPECTED = ("torch", "collections")


def foreign_call(path: Path) -> str | None:
    """The first name outside of torch's own that the pickle in ``path`` (or in the zip there) asks for."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return _first_foreign(file)
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as file:
                        return _first_foreign(file)
    except (OSError, zipfile.BadZipFile):
        pass  # unreadable: then it calls nothing
    return None


def _first_foreign(file: IO[bytes]) -> str | None:
    for name in _globals(file):
        if name.partition(".")[0] not in EXPECTED:
            return name
    return None


def _globals(file: IO[bytes]) -> Iterator[str]:
    """Dotted names in the order in which the pickle asks for them, up to where it cannot be read any more."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, MemoryError):  # nonsense, or a text said to be as long as no memory is
        return
