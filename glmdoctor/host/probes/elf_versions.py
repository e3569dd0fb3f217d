"""Symbol versions that an ELF file defines or needs, read through the program headers as the loader does.

By ``struct``: pyelftools takes longer to import than all that is read here. 64-bit little-endian files only, which is
what the wheels in question are. A forged or cut file gives nothing, never a crash; every loop is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

IDENT = b"\x7fELF\x02\x01"
HEADER, SEGMENT, TAG = struct.Struct("<16s2HI3QI6H"), struct.Struct("<2I6Q"), struct.Struct("<2Q")
NEED, NEED_AUX = struct.Struct("<2H3I"), struct.Struct("<I2H2I")
DEFINITION, DEFINITION_AUX = struct.Struct("<4H3I"), struct.Struct("<2I")
LOAD, DYNAMIC = 1, 2
STRTAB, VERDEF, VERDEFNUM, VERNEED, VERNEEDNUM = 5, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
# Far above what a linker writes.
MAX_SEGMENTS, MAX_TAGS, MAX_VERSIONS, MAX_NAME = 64, 1024, 512, 256


class Versions(NamedTuple):
    defined: tuple[str, ...]
    needed: tuple[str, ...]


def versions(file: BinaryIO) -> Versions:
    """Names of versions ("GLIBCXX_3.4.29"), in the file's order."""
    try:
        elf = _Elf(file)
        return Versions(tuple(elf.defined()), tuple(elf.needed()))
    except (struct.error, ValueError, OverflowError):  # what is cut or points outside itself
        return Versions((), ())


class _Elf:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        fields = HEADER.unpack(self._at(0, HEADER.size))
        if not fields[0].startswith(IDENT):
            raise ValueError("no 64-bit little-endian ELF file")
        start, size, count = fields[5], fields[9], fields[10]
        raw = [SEGMENT.unpack(self._at(start + i * size, SEGMENT.size)) for i in range(min(count, MAX_SEGMENTS))]
        self.loads = [(address, offset, length) for kind, _, offset, address, _, length, *_ in raw if kind == LOAD]
        dynamic = next(((offset, length) for kind, _, offset, _, _, length, *_ in raw if kind == DYNAMIC), (0, 0))
        self.tags = dict(self._tags(*dynamic))

    def defined(self) -> Iterator[str]:
        at = self.tags.get(VERDEF, 0)
        for _ in range(min(self.tags.get(VERDEFNUM, 0), MAX_VERSIONS)):
            _, _, _, _, _, aux, following = DEFINITION.unpack(self._in_memory(at, DEFINITION.size))
            name, _ = DEFINITION_AUX.unpack(self._in_memory(at + aux, DEFINITION_AUX.size))
            yield self._name(name)
            at += following

    def needed(self) -> Iterator[str]:
        at, left = self.tags.get(VERNEED, 0), MAX_VERSIONS
        for _ in range(min(self.tags.get(VERNEEDNUM, 0), MAX_VERSIONS)):
            _, count, _, aux, following = NEED.unpack(self._in_memory(at, NEED.size))
            entry = at + aux
            for _ in range(min(count, left)):
                _, _, _, name, step = NEED_AUX.unpack(self._in_memory(entry, NEED_AUX.size))
                yield self._name(name)
                entry, left = entry + step, left - 1
            at += following

    def _tags(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        raw = self._at(offset, min(length // TAG.size, MAX_TAGS) * TAG.size)
        for tag, value in TAG.iter_unpack(raw):
            if tag == 0:
                return
            yield tag, value

    def _name(self, at: int) -> str:
        raw = self._in_memory(self.tags.get(STRTAB, 0) + at, 1, MAX_NAME)
        return raw.partition(b"\0")[0].decode("ascii", "replace")

    def _in_memory(self, address: int, size: int, limit: int = 0) -> bytes:
        """``size`` bytes, or up to ``limit``, of what the loader would map to ``address``."""
        for start, offset, length in self.loads:
            if start <= address < start + length:
                return self._at(offset + address - start, max(size, limit), size)
        raise ValueError("an address outside the file")

    def _at(self, offset: int, size: int, least: int | None = None) -> bytes:
        self.file.seek(offset)
        raw = self.file.read(size)
        if len(raw) < (size if least is None else least):
            raise ValueError("the file is cut")
        return raw
