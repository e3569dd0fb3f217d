"""Which row of the cache an answer has, and what rows that nobody has may still be good for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch

from glmcore.engine.batch.prefixes import Prefixes
from glmcore.engine.batch.scheduler import Place
from glmcore.engine.ways import Way
from glmcore.errors import GlmError


class Seats:
    """Rows that are taken, and free ones, which keep what they hold until they are needed: the first to go is the one
    that has been free longest, and what it held goes to the ``prefixes``."""

    def __init__(self, way: Way, prefixes: Prefixes) -> None:
        self.way, self.rows, self.prefixes = way, way.rows, prefixes
        self.taken: dict[Place, int] = {}
        self.free: list[int] = []
        self.reused = 0  # tokens of prompts that were found

    def row_of(self, place: Place) -> int:
        return self.taken[place]

    @torch.inference_mode()
    def take(self, place: Place, prompt: Sequence[int], afresh: bool = False) -> tuple[int, int]:
        """A row for a prompt, and how many tokens of it stand there: from another row, or from what was kept, unless
        all of it is to be read ``afresh``."""
        self.way.put_prefix()
        rows = () if afresh else (*self.free, *self.taken.values())
        held, source = max(((self.way.reusable(row, prompt), row) for row in rows), default=(0, -1))
        count, kept = (0, None) if afresh else self.prefixes.best(self.way, prompt)
        row = source if held and held >= count and source in self.free else self._free_row()
        self.rows.make_room(len(prompt), row + 1)  # where there is no memory for it, nobody has it
        self._occupy(place, row)
        if kept is not None and count > held:
            self.prefixes.put_back(kept, self.rows, row, count)
        elif held:
            self.rows.copy(source, row, held)
        self.reused += max(held, count)
        return row, max(held, count)

    @torch.inference_mode()
    def share(self, place: Place, other: Place) -> None:
        """A row that holds all that another one's does."""
        source, row = self.taken[other], self._free_row()
        self._occupy(place, row)
        self.rows.make_room(len(self.rows.held[source]), row + 1)
        self.rows.copy(source, row, len(self.rows.held[source]))

    def _free_row(self) -> int:
        """A row that holds nothing, the one that has been free longest, or where none is free a new one."""
        empty = [row for row in self.free if not self.rows.held[row]]
        return (empty or self.free or [len(self.taken)])[0]

    def _occupy(self, place: Place, row: int) -> None:
        self.taken[place] = row
        if row in self.free:
            self.free.remove(row)
            self.prefixes.keep(self.way, row)

    def empty(self, place: Place) -> None:
        """Forget what its row holds."""
        if place in self.taken:
            self.rows.hold(self.taken[place], [])

    def leave(self, place: Place) -> None:
        row = self.taken.pop(place, None)
        if row is not None:
            self.free.append(row)

    def stale(self) -> tuple[int, list[int]] | None:
        """A row that nobody has and its tokens, where reading them as a prompt would leave other bits."""
        grid = self.way.grid
        for row in reversed(self.free if self.way.config.traits.causal else ()):
            held = self.rows.held[row]
            if len(held) > self.way.short and len(held) // grid * grid > self.rows.read[row]:
                return row, list(held)
        return None

    @torch.inference_mode()
    def compact(self) -> None:
        """Where nobody has a row: keep the memory of the one that was used last alone."""
        if len(self.rows) > 1 and self.free and not self.taken:
            with suppress(MemoryError, RuntimeError, GlmError):  # there is no room to make less of it
                for row in self.free[:-1]:
                    self.prefixes.keep(self.way, row)
                self.rows.keep_one(self.free[-1])
                self.free = [0]
