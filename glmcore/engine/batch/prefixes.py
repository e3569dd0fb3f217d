"""What was read before and has no row any more: prompts' keys and values, bounded in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glmcore.engine.sequence import common_prefix
from glmcore.engine.ways import Rows, Way

# Fewer tokens are read again as fast as they are kept.
LEAST = 16
# Bytes where nobody says how many.
USUAL = 256 * 2**20


@dataclass(eq=False)
class Kept:
    """``tokens`` and what the cache took out for them; ``read`` as in ``Rows``."""

    tokens: list[int]
    read: int
    taken: Any
    nbytes: int


class Prefixes:
    """The beginnings of prompts, those at the end used last; the first go when they become too many bytes."""

    def __init__(self, most_bytes: int = USUAL) -> None:
        self.most_bytes = most_bytes
        self.kept: list[Kept] = []

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.kept)

    def best(self, way: Way, prompt: Sequence[int]) -> tuple[int, Kept | None]:
        """How many tokens of ``prompt`` need not be read, and where they are kept."""
        found = [(way.shared(each.tokens, each.read, prompt), number) for number, each in enumerate(self.kept)]
        count, number = max(found, default=(0, -1))
        return (count, self.kept[number]) if count else (0, None)

    def keep(self, way: Way, row: int) -> None:
        """Keep of a row what a longer prompt could use."""
        rows = way.rows
        count = rows.read[row] or min(len(rows.held[row]), way.short)
        tokens = rows.held[row][:count]
        if not way.config.traits.causal or count < LEAST:
            return
        if any(common_prefix(each.tokens, tokens) == count and each.read >= rows.read[row] for each in self.kept):
            return
        size = count * rows.cache.nbytes // (len(rows) * (rows.cache.capacity + rows.cache.prefix))
        if size > self.most_bytes:
            return
        self.kept = [each for each in self.kept if common_prefix(each.tokens, tokens) < len(each.tokens)]
        while self.kept and self.nbytes + size > self.most_bytes:
            del self.kept[0]
        self.kept.append(Kept(tokens, rows.read[row], rows.cache.take(row, count), size))

    def put_back(self, kept: Kept, rows: Rows, row: int, count: int) -> None:
        """Let a row, which has room for them, hold the first ``count`` tokens of what was kept."""
        if kept in self.kept:  # making room for others may have cost it its place
            self.kept.remove(kept)
            self.kept.append(kept)
        rows.cache.put(row, kept.taken, count)
        rows.hold(row, kept.tokens[:count], min(count, kept.read))
