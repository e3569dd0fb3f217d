"""What a file of torch.save would do, read from its zip directory and its pickle's opcodes. Imports no torch.

Nothing is executed, and every reading is bounded: a hostile archive can be neither long to list nor large to unpack.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO

# Loading with weights_only runs code before 2.6 (CVE-2025-32434) and writes out of bounds before 2.10 (CVE-2026-24747).
SAFE_TORCH = (2, 10)

PICKLE_LIMIT = 8 << 20  # bytes looked at; the data.pkl of a 6B checkpoint's shard has some tens of thousands
DIRECTORY_LIMIT = 4 << 20  # of a zip archive; that of such a shard has some tens of thousands too
NAMES_LIMIT = 200  # different names kept
PICKLES = 4  # archives with more than one: only a forged one has
PROTO, ZIP = b"\x80", b"PK\x03\x04"
END, END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
END_MAGIC, END64_MAGIC = b"PK\x05\x06", b"PK\x06\x06"
TAIL = (1 << 16) + END.size  # an end record may be followed by a comment of 64 KiB
# torch before 1.6 began with this number, then protocol, system, the tensors and their keys, then raw bytes.
LEGACY, LEGACY_PARTS = (0x1950A86A20F9469CFC6C).to_bytes(10, "little"), 5
STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING")
PASSED_OVER = ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "PROTO", "FRAME", "MARK")
COMPUTED = "(computed)"  # a name that the pickle puts together: nobody's file of tensors does
UNREADABLE = "(unreadable)"

# What torch.save names for tensors: as `weights_only` admits it, and no function that could do anything else.
TENSORS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|torch\.(Size|Tensor|device|storage\.(Untyped|Typed|_Typed)Storage)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state|qtensor|sparse_tensor)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.(Parameter|Buffer)|torch\.serialization\._get_layout"
    r"|torch\.(Untyped|Double|Float|Half|Long|Int|Short|Char|Byte|Bool|BFloat16|ComplexFloat|ComplexDouble|QInt8)Storage"
    r"|torch\.(float|float16|float32|float64|bfloat16|float8_e4m3fn|float8_e5m2|half|double|bool|complex64|complex128)"
    r"|torch\.(u?int(8|16|32|64)|int|long|short|qu?int(8|32))"
)


def reads_safely(torch_version: str) -> bool:
    """Whether a torch of this version ("2.9.1+cu126") reads a pickle with ``weights_only`` as it promises."""
    numbers = re.match(r"(\d+)\.(\d+)", torch_version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= SAFE_TORCH


def foreign_calls(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names in a pickle that a file of tensors does not hold; a name that cannot be read is damage."""
    return tuple(name for name in names if not TENSORS.fullmatch(name) and name != UNREADABLE)


def fault(file: BinaryIO) -> str | None:
    """Why torch has not written the file: no archive or pickle, a damaged one, or a compressed one; else None."""
    if not _is_zip(file):
        return None if file.read(1) == PROTO else "neither a zip archive nor a pickle"
    if not _small_directory(file):
        return "the zip archive has no directory, or an absurdly long one"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except Exception:  # zipfile raises many kinds (KeyError, ValueError, RuntimeError …) on a forged archive
        return "the zip archive cannot be read"
    packed = next((entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:  # torch never compresses; some megabytes would take gigabytes of memory
        return f"the entry {packed.filename} is compressed, to unpack to {packed.file_size} bytes"
    if not any(entry.filename.endswith(".pkl") for entry in entries):
        return "the zip archive holds no tensors"
    return None


def imported(file: BinaryIO) -> tuple[str, ...]:
    """Dotted names that the pickles in a file ask for, in their order, each once."""
    found: dict[str, None] = {}
    try:
        for name in _of_archive(file) if _is_zip(file) else _of_stream(file):
            found[name] = None
            if len(found) >= NAMES_LIMIT:
                break
    except Exception:  # zipfile and zlib raise many kinds on a forged archive
        found[UNREADABLE] = None
    return tuple(found)


def _is_zip(file: BinaryIO) -> bool:
    file.seek(0)
    start = file.read(len(ZIP))
    file.seek(0)
    return start == ZIP


def _of_archive(file: BinaryIO) -> Iterator[str]:
    if not _small_directory(file):
        yield UNREADABLE
        return
    with zipfile.ZipFile(file) as archive:
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
        for entry in pickles[:PICKLES]:
            with archive.open(entry) as packed:
                yield from _of_stream(packed)
        if len(pickles) > PICKLES:
            yield UNREADABLE


def _small_directory(file: BinaryIO) -> bool:
    """``zipfile`` reads the whole central directory at once; its size stands in the end record."""
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL))
    tail = file.read()
    at = tail.rfind(END_MAGIC)
    if at < 0 or len(tail) - at < END.size:
        return False
    length = END.unpack_from(tail, at)[5]
    far = tail.rfind(END64_MAGIC, 0, at)
    if far >= 0 and at - far >= END64.size:
        length = END64.unpack_from(tail, far)[8]
    elif length == 0xFFFFFFFF:
        return False
    return bool(length <= DIRECTORY_LIMIT)


def _of_stream(file: IO[bytes]) -> Iterator[str]:
    """The names in a pickle, or in those that torch before 1.6 wrote one after the other."""
    content = io.BytesIO(file.read(PICKLE_LIMIT))
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
