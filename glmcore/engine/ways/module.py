"""The model through its modules, on whatever devices they are: one row after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from glmcore.engine.pipeline import overlapping, prefill_chunks
from glmcore.engine.ways.rows import Rows
from glmcore.engine.ways.way import Way
from glmcore.plan.shares import PREFILL_CHUNK

# Tokens of a prompt at a time on a CPU: a matrix product of so many is nearly as fast as one of more.
CPU_CHUNK = 64
# Chunks that a split model has at once where nobody waits.
UNDER_WAY = 8


class ModuleWay(Way):
    """Every row is a forward pass of its own, of the shapes that it would have alone: its bits are the same."""

    short = 0
    together = 4  # a step is as many passes: what several gain is not to wait for each other's ends

    def __init__(self, model: nn.Module, rows: Rows) -> None:
        super().__init__(model, rows)
        several = overlapping(model)
        self.grid = CPU_CHUNK if self.device.type == "cpu" and not several else PREFILL_CHUNK
        self.piece = PREFILL_CHUNK * (UNDER_WAY if several else 1)

    def read(self, row: int, ids: Tensor, length: int) -> Tensor:
        """Logits [V] after ``ids`` [1, S], in chunks where the model is causal."""
        view, positions = self.rows.view(row), self.rows.positions[row]
        if positions is not None:
            return self.model(ids, cache=view, last_only=True, **positions.prompt())[0, -1]
        return prefill_chunks(self.model, ids.split(self.grid, dim=1), view)[0, -1]

    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [tokens, V] of a forward pass for each row."""
        return torch.cat([self._one(row, each) for row, each in tokens.items()])

    def _one(self, row: int, tokens: Sequence[int]) -> Tensor:
        ids, positions = torch.tensor([tokens], device=self.device), self.rows.following(row, tokens)
        return self.model(ids, position_ids=positions, cache=self.rows.view(row))[0]
