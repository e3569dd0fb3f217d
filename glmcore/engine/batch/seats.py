"""Which row of the cache an answer has, and what the rows that nobody has may still be good for."""

from __future__ import annotations

from collections.abc import Sequence

from glmcore.engine.batch.scheduler import Place
from glmcore.engine.ways import Rows, Way


class Seats:
    """Rows that are taken, and free ones, which keep what they hold until they are needed: the first to go is the one
    that has been free longest."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.taken: dict[Place, int] = {}
        self.free: list[int] = []
        self.reused = 0  # tokens of prompts that were found

    def row_of(self, place: Place) -> int:
        return self.taken[place]

    def take(self, place: Place, prompt: Sequence[int], way: Way) -> tuple[int, int]:
        """A row for a prompt, and how many tokens of it stand there, from another row where that holds more of it."""
        kept, source = max(((way.reusable(row, prompt), row) for row in (*self.free, *self.taken.values())),
                           default=(0, -1))  # fmt: skip
        row = source if kept and source in self.free else self._free_row()
        self.taken[place] = row
        if row in self.free:
            self.free.remove(row)
        if kept and source != row:
            self.rows.make_room(kept, row + 1)
            self.rows.copy(source, row, kept)
        self.reused += kept
        return row, kept

    def _free_row(self) -> int:
        """A row that holds nothing, the one that has been free longest, or where none is free a new one."""
        empty = [row for row in self.free if not self.rows.held[row]]
        return (empty or self.free or [len(self.taken)])[0]

    def empty(self, place: Place) -> None:
        """Forget what its row holds."""
        if place in self.taken:
            self.rows.hold(self.taken[place], [])

    def leave(self, place: Place) -> None:
        row = self.taken.pop(place, None)
        if row is not None:
            self.free.append(row)
