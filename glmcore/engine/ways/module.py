"""The model through its modules, on whatever devices they are: one row after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from glmcore.engine.pipeline import overlapping, prefill_chunks
from glmcore.engine.ways.rows import Rows
from glmcore.engine.ways.way import Habits, Showing
from glmcore.models.cache import KVCache
from glmcore.plan.shares import PREFILL_CHUNK

# Tokens of a prompt at a time on a CPU: a matrix product of so many is nearly as fast as one of more.
CPU_CHUNK = 64
# Chunks that a split model has at once where nobody waits.
UNDER_WAY = 8
# A step is as many passes: what several answers gain is not to wait for each other's ends.
TOGETHER = 4


def module_habits(model: nn.Module) -> Habits:
    """Those of a model that goes through its modules."""
    several = overlapping(model)
    grid = CPU_CHUNK if home(model).type == "cpu" and not several else PREFILL_CHUNK
    return Habits(short=0, grid=grid, piece=PREFILL_CHUNK * (UNDER_WAY if several else 1), together=TOGETHER)


def home(model: nn.Module) -> torch.device:
    """Where a pass begins: at the embedding, or in a stage that has none at the first layer."""
    tensors = (next(chain(part.buffers(), part.parameters()), None) for part in (model.embedding, model.layers[0]))
    return next(tensor.device for tensor in tensors if tensor is not None)


class ModuleWay(Showing):
    """Every row is a forward pass of its own, of the shapes that it would have alone: its bits are the same."""

    def __init__(self, model: nn.Module, rows: Rows, habits: Habits | None = None) -> None:
        super().__init__(rows, habits or module_habits(model))
        self.model = model

    def read(self, row: int, ids: Tensor, length: int, states: list[Tensor] | None = None) -> Tensor:
        """Logits [V] after ``ids`` [1, S], in chunks where the model is causal."""
        view, positions = self.rows.view(row), self.rows.positions[row]
        if positions is not None:
            return self._pass(ids, view, states, **positions.prompt())[0, -1]
        chunks = ids.split(self.grid, dim=1)
        if states is None:
            return prefill_chunks(self.model, chunks, view)[0, -1]
        return [self._pass(chunk, view, states) for chunk in chunks][-1][0, -1]

    def _pass(self, ids: Tensor, view: KVCache, states: list[Tensor] | None, **inputs: Any) -> Tensor:
        """Logits [1, 1, V]; the states [S, hidden size] are caught where the last layer gives them."""
        if states is None:
            return self.model(ids, cache=view, last_only=True, **inputs)
        left: list[Tensor] = []

        def call(layer: nn.Module, *given: Any) -> Tensor:
            left[:] = [layer(*given)]
            return left[0]

        logits = self.model(ids, cache=view, last_only=True, call=call, **inputs)
        states.append(left[0][0])
        return logits

    def normed(self, states: Tensor) -> Tensor:
        return states if self.model.final_norm is None else self.model.final_norm(states)

    def logits(self, states: Tensor) -> Iterator[Tensor]:
        for few in states.split(CPU_CHUNK):
            yield self.model.lm_head(self.normed(few))

    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [tokens, V] of a forward pass for each row."""
        return torch.cat([self._one(row, each) for row, each in tokens.items()])

    def put_prefix(self) -> None:
        if self.model.prefix is not None:
            self.model.prefix.before(self.rows.cache)

    @property
    def device(self) -> torch.device:
        return home(self.model)

    def _one(self, row: int, tokens: Sequence[int]) -> Tensor:
        ids, positions = torch.tensor([tokens], device=self.device), self.rows.following(row, tokens)
        return self.model(ids, position_ids=positions, cache=self.rows.view(row))[0]
