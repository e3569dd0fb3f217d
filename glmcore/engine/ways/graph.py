"""Decoding on a card as recorded graphs; prompts go through the modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from glmcore.engine.graph import GraphStep, StaticStep
from glmcore.engine.ways.module import ModuleWay, module_habits
from glmcore.engine.ways.rows import Rows

TOGETHER = 16


class GraphWay(ModuleWay):
    """A step goes over all rows of the cache; those that have no token compute what nobody reads and nothing keeps."""

    recorded: StaticStep | None = None

    def __init__(self, model: nn.Module, rows: Rows) -> None:
        super().__init__(model, rows, replace(module_habits(model), together=TOGETHER))

    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [tokens, V] of one replay over all rows."""
        if self.recorded is None or not self.recorded.usable:
            self.recorded = GraphStep(self.model, self.rows.cache)
        lengths = torch.tensor([len(held) for held in self.rows.held])
        ids, positions = torch.zeros_like(lengths)[:, None], lengths[:, None]
        if self.config.position_2d:
            positions = positions[:, None].repeat(1, 2, 1)
        for row, each in tokens.items():
            [ids[row, 0]] = each
            own = self.rows.following(row, each)
            if own is not None:
                positions[row] = own[0]
        logits = self.recorded(ids, positions, lengths)
        return logits if len(tokens) == 1 == len(lengths) else logits[list(tokens)]
