"""The model through its modules, on whatever devices they are: one row after the other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glmcore.engine.pipeline import prefill_chunks
from glmcore.engine.ways.way import Way
from glmcore.plan.planner import PREFILL_CHUNK


class ModuleWay(Way):
    """Every row is a forward pass of its own, of the shapes that it would have alone: its bits are the same."""

    def read(self, row: int, ids: Tensor, length: int) -> Tensor:
        """Logits [V] after ``ids`` [1, S], in chunks where the model is causal."""
        view, positions = self.rows.view(row), self.rows.positions[row]
        if positions is not None:
            return self.model(ids, cache=view, last_only=True, **positions.prompt())[0, -1]
        return prefill_chunks(self.model, ids.split(PREFILL_CHUNK, dim=1), view)[0, -1]

    def step(self, tokens: Mapping[int, int]) -> Tensor:
        """Logits [tokens, V] of a forward pass for each row."""
        return torch.stack([self._one(row, token) for row, token in tokens.items()])

    def _one(self, row: int, token: int) -> Tensor:
        ids = torch.tensor([[token]], device=self.device)
        positions = self.next_positions(row, ids)
        return self.model(ids, position_ids=positions, cache=self.rows.view(row), last_only=True)[0, -1]
