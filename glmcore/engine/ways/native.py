"""The model as one call of the CPU kernel: a step takes all rows at once, and threads are woken once for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from glmcore.engine.native import CHUNK, FEW_FLOAT_ROWS, SHORT_PROMPT, NativeModel, Pass
from glmcore.engine.ways.module import ModuleWay, module_habits
from glmcore.engine.ways.rows import Rows
from glmcore.engine.ways.way import Habits, Reading
from glmcore.models.cache import KVCache

TOGETHER = 16


def native_habits(native: NativeModel) -> Habits:
    """Those of a model in the CPU's kernel."""
    of_modules = replace(module_habits(native.model), together=TOGETHER, drafts=True)
    if not native.quantised:
        return replace(of_modules, short=FEW_FLOAT_ROWS)
    short = sys.maxsize if native.one_precision else SHORT_PROMPT
    return replace(of_modules, short=short, grid=1, piece=CHUNK, shares=True)


class NativeWay(ModuleWay):
    """A row's bits depend on no other row. Long prompts of matrices that are not quantised go through the modules."""

    spare: KVCache | None = None  # for trials

    def __init__(self, native: NativeModel, rows: Rows) -> None:
        super().__init__(native.model, rows, native_habits(native))
        self.native = native

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
        return LayerByLayer(self, row, prompt) if self.native.takes(len(prompt)) else super().both_ways(row, prompt)

    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [tokens, V] of one call for all rows."""
        ids, numbers, places, positions = self.rows.next_of_all(tokens)
        return self.native.together(ids, numbers, places + self.rows.cache.prefix, self.rows.cache, positions)

    def trial(self, rows: int) -> None:
        if self.spare is None or self.spare.batch < rows:
            self.spare = KVCache(self.config, rows, 1, self.rows.cache.keys[0].dtype)
        self.native.trial(self.spare, rows, 0)


class LayerByLayer(Reading):
    """ChatGLM-6B's prompt, which goes through a layer as a whole, and so is interrupted between two layers."""

    way: NativeWay

    def __init__(self, way: NativeWay, row: int, prompt: Sequence[int]) -> None:
        super().__init__(way, row, prompt)
        positions = way.rows.positions[row]
        assert positions is not None
        way.rows.begun[row] = len(prompt)
        self.under_way: Pass = way.native.reading(
            torch.tensor([prompt]), way.rows.cache, row, 0, positions.prompt()["position_ids"], positions.context[0],
            prompt=len(prompt),
        )  # fmt: skip

    @property
    def left(self) -> int:
        """What is left of all layers, as tokens."""
        return -(-len(self.prompt) * self.under_way.left // self.way.config.num_layers)

    @torch.inference_mode()
    def advance(self, most: int) -> Tensor | None:
        self.under_way.run(max(1, most * self.way.config.num_layers // len(self.prompt)))
        if self.under_way.left:
            return None
        if self.states is not None:
            self.states.append(self.under_way.hidden)
        self.way.rows.hold(self.row, self.prompt)
        return self.under_way.logits[0]
