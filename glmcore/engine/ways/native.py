"""The model as one call of the CPU kernel: a step takes all rows at once, and threads are woken once for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glmcore.engine.native import CHUNK, NativeModel
from glmcore.engine.ways.module import ModuleWay
from glmcore.engine.ways.rows import Rows


class NativeWay(ModuleWay):
    """A row's bits depend on no other row. Long prompts of matrices that are not quantised go through the modules."""

    def __init__(self, native: NativeModel, rows: Rows) -> None:
        super().__init__(native.model, rows)
        self.native = native

    def read(self, row: int, ids: Tensor, length: int) -> Tensor:
        """Logits [V] after ``ids`` [1, S], in chunks where the model is causal."""
        if not self.native.takes(ids.shape[1]):
            return super().read(row, ids, length)
        view, positions = self.rows.view(row), self.rows.positions[row]
        if positions is not None:  # sees itself both ways, so it goes through in one piece
            inputs = positions.prompt()
            return self.native(ids, view, inputs["position_ids"], positions.context[0], prompt=length)
        return [self.native(chunk, view, prompt=length) for chunk in ids.split(CHUNK, dim=1)][-1]

    def step(self, tokens: Mapping[int, int]) -> Tensor:
        """Logits [tokens, V] of one call for all rows."""
        cache, numbers = self.rows.cache, list(tokens)
        ids, lengths = torch.tensor(list(tokens.values())), torch.tensor([len(self.rows.held[row]) for row in numbers])
        places = lengths + cache.prefix
        return self.native.together(ids, torch.tensor(numbers), places, cache, self._positions(tokens, lengths))

    def _positions(self, tokens: Mapping[int, int], lengths: Tensor) -> Tensor:
        """[1, S], of ChatGLM-6B [1, 2, S], one for each row."""
        if self.config.traits.causal:
            return lengths[None]
        own = [self.next_positions(row, torch.tensor([[token]])) for row, token in tokens.items()]
        return torch.cat([each for each in own if each is not None], dim=-1)
