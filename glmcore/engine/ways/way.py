"""What every way to run a model does: prompts into rows of the cache, then a token for some of the rows at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from glmcore.engine.ways.rows import Rows
from glmcore.models.inputs import PositionState


class Way(ABC):
    """A model and the rows that it serves. Each row gets the logits that it would get alone.

    Errors: GlmError("context-full", "not-finite") and torch's own; the row holds then what was sure before.
    """

    def __init__(self, model: nn.Module, rows: Rows) -> None:
        self.model, self.rows, self.config = model, rows, rows.config

    @torch.inference_mode()
    def prefill(self, prompts: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [prompts, V] after a whole prompt for each row; what a row holds of it is not computed again."""
        self.rows.make_room(max(map(len, prompts.values())))
        self._put_prefix()
        return torch.stack([self._prompt(row, prompt) for row, prompt in prompts.items()])

    @torch.inference_mode()
    def decode(self, tokens: Mapping[int, int]) -> Tensor:
        """Logits [tokens, V] after one more token for each of some rows; good until the next call."""
        self.rows.make_room(self.rows.cache.length + 1)
        logits = self.step(tokens)
        for row, token in tokens.items():
            self.rows.add(row, token)
        return logits

    @abstractmethod
    def read(self, row: int, ids: Tensor, length: int) -> Tensor:
        """Logits [V] after ``ids`` [1, S], the rest of a row's prompt, which has ``length`` tokens in all."""

    @abstractmethod
    def step(self, tokens: Mapping[int, int]) -> Tensor:
        """Logits [tokens, V] after one more token for each row."""

    @property
    def device(self) -> torch.device:
        """Where token ids belong: beside the embedding."""
        return next(self.model.embedding.buffers(), next(self.model.embedding.parameters(), None)).device

    def next_positions(self, row: int, ids: Tensor) -> Tensor | None:
        """Of ``ids`` [1, 1], a row's next token: [1, 2, 1] or [1, 1] for ChatGLM-6B, whose row moves on; else None."""
        positions = self.rows.positions[row]
        return None if positions is None else positions.step(ids)["position_ids"]

    def _prompt(self, row: int, prompt: Sequence[int]) -> Tensor:
        kept = self.rows.keep(row, prompt)
        ids = torch.tensor([prompt[kept:]], device=self.device)
        if not self.config.traits.causal:
            self.rows.positions[row] = PositionState(self.config, ids)
        logits = self.read(row, ids, len(prompt))
        self.rows.hold(row, prompt)
        return logits

    def _put_prefix(self) -> None:
        """A learnt prefix stands before the tokens of every row, once, before the rows get their views."""
        if self.model.prefix is not None:
            self.model.prefix.before(self.rows.cache)
