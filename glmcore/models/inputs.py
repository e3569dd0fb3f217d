"""Positions and masks: of whole prompts, left-padded or not, and of the tokens that follow them.

ChatGLM-6B's prompt sees itself in both directions up to <sop>. So its prompt goes through the model in one piece, and
what a cache holds of a prompt is of no use for another prompt that merely begins like it; the later generations are
causal and free of both limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.models.attention import causal_mask


class Inputs(TypedDict):
    """Keyword arguments for the model."""

    position_ids: Tensor  # [B, S]; ChatGLM-6B [B, 2, S]: position and block position
    attention_mask: Tensor | None  # [B, T], 1 where a key is no padding; or [B, 1, S, T], True where a query may look


def prompt_inputs(config: ModelConfig, input_ids: Tensor, keep: Tensor | None = None) -> Inputs:
    """For prompts [B, S] on an empty cache; ``keep`` [B, S] is 0 at the padding, which stands on the left."""
    return PositionState(config, input_ids, keep).prompt()


def step_inputs(state: PositionState, input_ids: Tensor) -> Inputs:
    """For the next tokens [B, S], which go on top of the cache; moves ``state`` on."""
    return state.step(input_ids)


class PositionState:
    """Where the rows of a batch stand: made from their prompts, moved on by each step."""

    def __init__(self, config: ModelConfig, input_ids: Tensor, keep: Tensor | None = None) -> None:
        self.config, self.ids = config, input_ids
        self.keep = None if keep is None else keep.bool()
        self.padding = [0] * len(input_ids) if self.keep is None else (~self.keep).sum(1).tolist()
        self.length = input_ids.shape[1]
        if not config.traits.causal:
            self.rows = [row[pad:] for row, pad in zip(input_ids.tolist(), self.padding, strict=True)]
            self.context = [context_length(config, row) for row in self.rows]

    def prompt(self) -> Inputs:
        if self.config.traits.causal:
            return {"position_ids": self._positions(0, self.length), "attention_mask": self.keep}
        places = self._positions(0, self.length)
        index = torch.arange(self.length, device=self.ids.device)
        context = torch.tensor(self.context, device=self.ids.device)[:, None]
        padding = torch.tensor(self.padding, device=self.ids.device)[:, None]
        after = index >= context + padding
        # Counted in one dimension, a prompt with [gMASK] goes on after <sop>; else all that follows is at the mask.
        fixed = torch.tensor([self.config.position_2d or self.config.gmask_token_id not in row for row in self.rows])
        places = torch.where(after & fixed.to(self.ids.device)[:, None], self._mask_positions(), places)
        block = torch.where(after, index - context - padding + 1, 0)
        position_ids = torch.stack((places, block), dim=1) if self.config.position_2d else places
        return {"position_ids": position_ids, "attention_mask": self._prefix_mask(index, ~after)}

    def step(self, input_ids: Tensor) -> Inputs:
        count = input_ids.shape[1]
        if not self.config.traits.causal and self.keep is None:
            # A [gMASK] that the model wrote itself moves the mask's position, as in the original, which looks at all
            # tokens anew in each step; for padded batches it carries the prompt's positions on.
            for row, tokens in zip(self.rows, input_ids.tolist(), strict=True):
                row.extend(tokens)
        if self.keep is not None:
            self.keep = torch.cat((self.keep, self.keep.new_ones(len(self.keep), count)), dim=1)
        start, self.length = self.length, self.length + count
        return {"position_ids": self._step_positions(start, count), "attention_mask": self.keep}

    def _positions(self, start: int, count: int) -> Tensor:
        """[B, count]: the index since the row's own first token; 0 at the padding."""
        index = torch.arange(start, start + count, device=self.ids.device)
        return (index - torch.tensor(self.padding, device=self.ids.device)[:, None]).clamp_(min=0)

    def _step_positions(self, start: int, count: int) -> Tensor:
        places = self._positions(start, count)
        if self.config.traits.causal:
            return places
        block = places - torch.tensor(self.context, device=self.ids.device)[:, None] + 1
        fixed = self._mask_positions().expand_as(places)
        # The one-dimensional form, too, goes on at the mask's position, although its prompt was counted through.
        return torch.stack((fixed, block), dim=1) if self.config.position_2d else fixed

    def _mask_positions(self) -> Tensor:
        """[B, 1], each row's own."""
        return torch.tensor([[mask_position(self.config, row)] for row in self.rows], device=self.ids.device)

    def _prefix_mask(self, index: Tensor, before_sop: Tensor) -> Tensor:
        """[B, 1, S, S], True where a query may look: at all of the prompt before <sop>, after it causally."""
        allowed = before_sop[:, None, :] | causal_mask(self.length, self.length, index.device)
        if self.keep is not None:
            # A padded query would see nothing, and softmax over nothing is NaN: it sees itself.
            allowed = (allowed & self.keep[:, None, :]) | torch.eye(self.length, dtype=torch.bool, device=index.device)
        return allowed[:, None]


def context_length(config: ModelConfig, row: Sequence[int]) -> int:
    """How many tokens come before <sop>; a row without it is context as a whole."""
    return row.index(config.bos_token_id) if config.bos_token_id in row else len(row)


def mask_position(config: ModelConfig, row: Sequence[int]) -> int:
    """Where the text that the model writes belongs: the first [gMASK], else the first [MASK], else at <sop>."""
    for token in (config.gmask_token_id, config.mask_token_id):
        if token in row:
            return row.index(token)
    return context_length(config, row)
