"""What the pickle in a weight file would call, read from its opcodes; nothing is unpickled, whatever the file says.

Every reading is bounded: a hostile archive can be neither long to list nor large to unpack.
"""

from __future__ import annotations

import io as streams
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO

PICKLE_LIMIT = 8 << 20  # bytes looked at; the data.pkl of a 6B checkpoint's shard has some tens of thousands
DIRECTORY_LIMIT = 4 << 20  # of a zip archive; that of such a shard has some tens of thousands too
NAMES_LIMIT = 200  # different names kept
PICKLES = 4  # archives with more than one: only a forged one has
# torch before 1.6 began with this number, then protocol, system, the tensors and their keys, then raw bytes.
LEGACY, LEGACY_PARTS = (0x1950A86A20F9469CFC6C).to_bytes(10, "little"), 5
STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING")
PASSED_OVER = ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "PROTO", "FRAME", "MARK")
COMPUTED = "(computed)"  # a name that the pickle puts together: nobody's file of tensors does
UNREADABLE = "(unreadable)"
END64 = struct.Struct("<4sQ2H2L4Q")  # the zip64 end record
END64_MAGIC = b"PK\x06\x06"


def imported(file: BinaryIO, kind: str) -> tuple[str, ...]:
    """Dotted names that the pickle of a "torch-zip" or "torch-pickle" file asks for, in its order, each once."""
    try:
        names = _of_archive(file) if kind == "torch-zip" else _of_stream(file)
        found: dict[str, None] = {}
        for name in names:
            found[name] = None
            if len(found) >= NAMES_LIMIT:
                break
        return tuple(found)
    except Exception:  # zipfile and zlib raise many kinds (KeyError, ValueError, RuntimeError …) on a forged archive
        return (UNREADABLE,)


def _of_archive(file: BinaryIO) -> Iterator[str]:
    if not _small_directory(file):
        yield UNREADABLE
        return
    with zipfile.ZipFile(file) as archive:
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
        for entry in pickles[:PICKLES]:
            with archive.open(entry) as packed:
                yield from _of_stream(packed)


def _small_directory(file: BinaryIO) -> bool:
    """``zipfile`` reads the whole central directory at once; its size stands in the end record."""
    size = file.seek(0, 2)
    tail_at = max(0, size - (1 << 16) - 22)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return False
    (length,) = struct.unpack_from("<L", tail, at + 12)
    far = tail.rfind(END64_MAGIC, 0, at)
    if far >= 0 and at - far >= END64.size:
        length = END64.unpack_from(tail, far)[8]
    elif length == 0xFFFFFFFF:
        return False
    return bool(length <= DIRECTORY_LIMIT)


def _of_stream(file: IO[bytes]) -> Iterator[str]:
    """The names in a pickle, or in those that torch before 1.6 wrote one after the other."""
    content = streams.BytesIO(file.read(PICKLE_LIMIT))
    parts = LEGACY_PARTS if LEGACY in content.getvalue()[:32] else 1
    try:
        for _ in range(parts):
            yield from _names(content)
    except Exception:  # pickletools raises many kinds on bytes that are no pickle, or that the limit cut
        yield UNREADABLE


def _names(content: BinaryIO) -> Iterator[str]:
    """As the unpickler's stack would have them: a name's module and its own name are the last two texts on it."""
    recent: list[str | None] = [None, None]
    last, memo = None, dict[int, str | None]()
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
            last = None
        elif name == "STACK_GLOBAL":
            yield COMPUTED if None in recent else f"{recent[0]}.{recent[1]}"
            last = None
        elif name in STRINGS:
            last = str(argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            last = memo.get(int(argument or 0))
        elif name == "MEMOIZE":
            memo[len(memo)] = last
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = last
        else:
            last = None
        if name not in PASSED_OVER:
            recent = [recent[1], last]
