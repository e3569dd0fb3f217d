"""NaN and infinity among the weights of a file, found while its bytes go by; neither numpy nor torch is needed.

A value is one of them where all bits of its exponent are set. Those bits are in the value's high byte and, for BF16 and
F32, in the next one. No weight of a sound model has such a high byte: it is looked for, and only a hit is looked at.
"""

from __future__ import annotations

from typing import BinaryIO

from glmcore.checkpoint.headers import SIZES, Entry, read_header
from glmcore.checkpoint.tables import read_table
from glmdoctor.host.io import IO

# Type → the high byte's bits of the exponent, those of the byte below it.
EXPONENTS = {"F16": (0x7C, 0), "BF16": (0x7F, 0x80), "F32": (0x7F, 0x80)}
HIGH_BYTES = {bits: [bytes([b]) for b in range(256) if b & bits == bits] for bits, _ in EXPONENTS.values()}
WEIGHTS = (".weight", ".bias", ".weight_scale")
SHOWN = 4


class Scan:
    """``found``: the first names of weights that are not finite; ``looked``: whether any were there to look at.

    ``path`` None, or a file of another kind: nothing.
    """

    def __init__(self, io: IO, path: str | None) -> None:
        self.found: list[str] = []
        self._entries = sorted(_entries(io, path), key=lambda each: each[1].begin) if path else []
        self.looked = bool(self._entries)

    def read(self, at: int, block: bytes) -> None:
        """``block`` lies at the file's byte ``at``; blocks come in order. A value cut by a block's end is left out."""
        while self._entries and self._entries[0][1].end <= at:
            self._entries.pop(0)
        for name, entry in self._entries:
            if entry.begin >= at + len(block) or len(self.found) == SHOWN:
                break
            size = SIZES[entry.dtype]
            first = entry.begin + max(0, -(-(at - entry.begin) // size)) * size
            last = min(entry.end, at + len(block))
            if name not in self.found and _hit(block[first - at : last - at], entry.dtype):
                self.found.append(name)


def _entries(io: IO, path: str) -> list[tuple[str, Entry]]:
    try:
        with io.open(path) as file:
            header = _table(file) if path.endswith(".bin") else read_header(file, io.stat(path).st_size)
    except (OSError, ValueError):  # told by the checks of the files
        return []
    return [(n, e) for n, e in header.items() if e.dtype in EXPONENTS and n.endswith(WEIGHTS) and e.begin < e.end]


def _table(file: BinaryIO) -> dict[str, Entry]:
    return read_table(file) or {}


def _hit(values: bytes, dtype: str) -> bool:
    high_bits, low_bits = EXPONENTS[dtype]
    size = SIZES[dtype]
    high = values[size - 1 :: size]
    for byte in HIGH_BYTES[high_bits]:
        at = high.find(byte)
        while at >= 0:
            if values[at * size + size - 2] & low_bits == low_bits:
                return True
            at = high.find(byte, at + 1)
    return False
