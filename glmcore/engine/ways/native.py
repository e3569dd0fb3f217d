"""The model as one call of the CPU kernel: a step takes all rows at once, and threads are woken once for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from glmcore.engine.native import CHUNK, FEW_FLOAT_ROWS, SHORT_PROMPT, NativeModel
from glmcore.engine.sweeps import Course
from glmcore.engine.ways.module import ModuleWay, module_habits
from glmcore.engine.ways.rows import Rows
from glmcore.engine.ways.way import Habits, Reading, Timed
from glmcore.models.cache import KVCache

TOGETHER = 16
# Of a prompt, in a step of answers: as many as share the reading of weights (LANE_ROWS in cpu/avx512.h).
BESIDE = 16


def native_habits(native: NativeModel) -> Habits:
    """Those of a model in the CPU's kernel."""
    of_modules = replace(module_habits(native.model), together=TOGETHER, drafts=True)
    if not native.quantised:
        return replace(of_modules, short=FEW_FLOAT_ROWS)
    short = sys.maxsize if native.one_precision else SHORT_PROMPT
    return replace(of_modules, short=short, grid=1, piece=CHUNK, shares=True)


class NativeWay(ModuleWay, Timed):
    """A row's bits depend on no other row. Long prompts of matrices that are not quantised go through the modules."""

    spare: KVCache | None = None  # for trials

    def __init__(self, native: NativeModel, rows: Rows) -> None:
        super().__init__(native.model, rows, native_habits(native))
        self.native = native
        self.beside = BESIDE if native.quantised and self.config.traits.causal else 0

    def read(self, row: int, ids: Tensor, length: int, states: list[Tensor] | None = None) -> Tensor:
        """Logits [V] after ``ids`` [1, S], in chunks where the model is causal."""
        if not self.native.takes(length):
            return super().read(row, ids, length, states)
        for chunk in ids.split(CHUNK, dim=1):
            start = len(self.rows.held[row])
            done = self.native.reading(chunk, self.rows.cache, row, start, prompt=length)
            done.run()
            if states is not None:
                states.append(done.hidden)
        return done.logits[0]

    def logits(self, states: Tensor) -> Iterator[Tensor]:
        """[few, V] at a time of states [S, H]."""
        for few in states.split(TOGETHER if self.native.quantised else FEW_FLOAT_ROWS):
            yield self.native.head(few)

    def both_ways(self, row: int, prompt: Sequence[int]) -> Reading:
        return BothWays(self, row, prompt) if self.native.takes(len(prompt)) else super().both_ways(row, prompt)

    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [tokens, V] of one call for all rows."""
        ids, numbers, places, positions = self.rows.next_of_all(tokens)
        return self.native.together(ids, numbers, places + self.rows.cache.prefix, self.rows.cache, positions)

    @torch.inference_mode()
    def follow_beside(
        self, tokens: Mapping[int, Sequence[int]], reading: Reading, most: int
    ) -> tuple[Tensor, Tensor | None]:
        self.rows.make_room(self.rows.cache.length + max(map(len, tokens.values())))
        ids, numbers, places, _ = self.rows.next_of_all(tokens)
        piece, start = reading.next(most), len(self.rows.held[reading.row])
        found = self.native.both(
            ids, numbers, places, self.rows.cache, torch.tensor(piece), reading.row, start,
            prompt=len(reading.prompt), last=len(piece) == reading.left,
        )  # fmt: skip
        reading.took(len(piece))
        return found

    def trial(self, rows: int) -> None:
        if self.spare is None or self.spare.batch < rows:
            self.spare = KVCache(self.config, rows, 1, self.rows.cache.keys[0].dtype)
        self.native.trial(self.spare, rows, 0)


class BothWays(Reading):
    """ChatGLM-6B's prompt, all of which goes through a layer before any of it goes through the next."""

    way: NativeWay

    def __init__(self, way: NativeWay, row: int, prompt: Sequence[int]) -> None:
        super().__init__(way, row, prompt)
        positions = way.rows.positions[row]
        assert positions is not None
        way.rows.begun[row] = len(prompt)
        self.course = Course(len(prompt), way.config.num_layers)
        self.going = way.native.reading(
            torch.tensor([prompt]), way.rows.cache, row, 0, positions.prompt()["position_ids"], positions.context[0],
            prompt=len(prompt),
        )  # fmt: skip

    @property
    def left(self) -> int:
        return self.course.left

    @torch.inference_mode()
    def advance(self, most: int) -> Tensor | None:
        for stretch in self.course.go_on(most):
            self.going.run_some(stretch)
        if self.left:
            return None
        logits = self.going.finish()[0]
        if self.states is not None:
            self.states.append(self.going.hidden)
        self.way.rows.hold(self.row, self.prompt)
        return logits
