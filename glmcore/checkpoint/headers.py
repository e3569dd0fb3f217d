"""The header of a .safetensors file: names, types, shapes and places of its tensors, checked. Imports no torch.

Layout: eight bytes that give the header's length (little-endian), the header as JSON, then the tensors' bytes.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from glmcore.errors import plain
from glmcore.reading import JSON_LIMIT, parse_json

# Bytes of a value of each type that is read.
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
SHOWN = 120  # characters of a tensor's name in an error
NAME_LIMIT = 1000  # the longest name of the four generations has 70


@dataclass(frozen=True)
class Entry:
    """A tensor as the header describes it; ``begin`` and ``end`` are byte offsets into the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(file: BinaryIO, size: int) -> dict[str, Entry]:
    """The entries of a file of ``size`` bytes, which have to fill it from end to end with neither overlap nor hole.

    Errors: ValueError that says in one sentence what is wrong with the file.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"its header should be {length} bytes and the file has {size}")
    if length > JSON_LIMIT:
        raise ValueError(f"its header of {length} bytes is absurdly long")
    try:
        header = parse_json(file.read(length))
    except ValueError as error:
        what = str(error) if "deeply" in str(error) else "not valid JSON"
        raise ValueError(f"its header is {what}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    entries = {name: _entry(name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(entries, 8 + length, size)
    return entries


def _entry(name: str, entry: Any, start: int) -> Entry:
    shown = plain(name, SHOWN)
    if len(name) > NAME_LIMIT:
        raise ValueError(f"the name {shown} is absurdly long")
    if not isinstance(entry, Mapping):
        raise ValueError(f"the entry of {shown} is no JSON object")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in SIZES:
        raise ValueError(f"{shown} has the unknown type {plain(repr(kind), 40)}")
    if not _naturals(shape) or len(shape) > 8 or not _naturals(offsets) or len(offsets) != 2:
        raise ValueError(f"the shape or the offsets of {shown} make no sense")
    needed = SIZES[kind] * math.prod(shape)
    if offsets[1] - offsets[0] != needed:
        raise ValueError(f"{shown} has {offsets[1] - offsets[0]} bytes, its shape needs {needed}")
    return Entry(kind, tuple(shape), start + offsets[0], start + offsets[1])


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)


def _check_layout(entries: Mapping[str, Entry], start: int, size: int) -> None:
    position, previous = start, "the header"
    for name, entry in _in_order(entries):
        if entry.begin != position:
            what = "overlap" if entry.begin < position else "leave a hole"
            raise ValueError(f"{previous} and {plain(name, SHOWN)} {what}")
        position, previous = entry.end, plain(name, SHOWN)
    if size < position:
        raise ValueError(f"it has {size} bytes of {position}")
    if size > position:
        raise ValueError(f"{size - position} bytes follow its last tensor")


def _in_order(entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    yield from sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
