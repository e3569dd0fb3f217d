"""Positions and masks: of whole prompts, left-padded or not, and of the tokens that follow them.

ChatGLM-6B's prompt sees itself in both directions up to <sop>. So its prompt goes through the model in one piece, and
what a cache holds of a prompt is of no use for another prompt that merely begins like it; the later generations are
causal and free of both limits. A text without <sop> is no prompt: each of its tokens sees those before
it alone, as behind a <sop>, so that none is told the next one and what pads a batch on the right is seen by none.
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


class PositionState:
    """Where the rows of a batch stand: made from their prompts, moved on by each step."""

    def __init__(self, config: ModelConfig, input_ids: Tensor, keep: Tensor | None = None) -> None:
        self.config = config
        self.keep = None if keep is None else keep.bool()
        self.length = input_ids.shape[1]
        own = torch.ones_like(input_ids) if self.keep is None else self.keep.long()
        self.places = (own.cumsum(1) - 1).clamp_(min=0)  # of the prompt's tokens among their row's own
        self.offset = own.sum(1, keepdim=True) - self.length  # what follows stands at its index plus this
        if not config.traits.causal:
            self.rows = [row[kept].tolist() for row, kept in zip(input_ids, own.bool(), strict=True)]
            self.context = [context_length(config, row) for row in self.rows]

    def prompt(self) -> Inputs:
        if self.config.traits.causal:
            return {"position_ids": self.places, "attention_mask": self.keep}
        context = self._column(self.context)
        after = self.places >= context
        places = torch.where(after & self._column([self._at_mask(row) for row in self.rows]),
                             self._mask_positions(), self.places)  # fmt: skip
        block = torch.where(after, self.places - context + 1, 0)
        position_ids = torch.stack((places, block), dim=1) if self.config.position_2d else places
        return {"position_ids": position_ids, "attention_mask": self._prefix_mask(~after)}

    def step(self, input_ids: Tensor) -> Inputs:
        """For the next tokens [B, S], which go on top of the cache; the rows move on."""
        count = input_ids.shape[1]
        if not self.config.traits.causal and self.keep is None:
            # A [gMASK] that the model wrote itself moves the mask's position, as in the original, which looks at all
            # tokens anew in each step; for padded batches it carries the prompt's positions on.
            for row, tokens in zip(self.rows, input_ids.tolist(), strict=True):
                row.extend(tokens)
        if self.keep is not None:
            self.keep = torch.cat((self.keep, self.keep.new_ones(len(self.keep), count)), dim=1)
        start, self.length = self.length, self.length + count
        return {"position_ids": self.following(start, count), "attention_mask": self.keep}

    def back(self, count: int) -> None:
        """Take the last ``count`` tokens of a step back."""
        self.length -= count
        if not self.config.traits.causal and self.keep is None:
            for row in self.rows:
                del row[len(row) - count :]

    def following(self, start: int, count: int) -> Tensor:
        """The positions of ``count`` tokens behind the prompt, the first at index ``start`` of the row.

        [B, count], of ChatGLM-6B's two-dimensional form [B, 2, count].
        """
        places = torch.arange(start, start + count, device=self.offset.device) + self.offset
        if self.config.traits.causal:
            return places
        # The one-dimensional form, too, goes on at the mask's position, although its prompt was counted through.
        fixed = torch.where(self._column([self.config.bos_token_id in row or self.config.position_2d
                                          for row in self.rows]), self._mask_positions(), places)  # fmt: skip
        block = places - self._column(self.context) + 1
        return torch.stack((fixed, block), dim=1) if self.config.position_2d else fixed

    def _at_mask(self, row: Sequence[int]) -> bool:
        """Whether all that follows <sop> is at the mask's position.

        Counted in one dimension, a prompt with [gMASK], or a text without <sop>, goes on instead.
        """
        counts_on = self.config.gmask_token_id in row or self.config.bos_token_id not in row
        return self.config.position_2d or not counts_on

    def _mask_positions(self) -> Tensor:
        """[B, 1], each row's own."""
        return self._column([mask_position(self.config, row) for row in self.rows])

    def _column(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=self.offset.device)[:, None]

    def _prefix_mask(self, before_sop: Tensor) -> Tensor:
        """[B, 1, S, S], True where a query may look: at all of the prompt before <sop>, after it causally."""
        device = before_sop.device
        allowed = before_sop[:, None, :] | causal_mask(self.length, self.length, device)
        if self.keep is not None:
            # A padded query would see nothing, and softmax over nothing is NaN: it sees itself.
            allowed = (allowed & self.keep[:, None, :]) | torch.eye(self.length, dtype=torch.bool, device=device)
        return allowed[:, None]


def context_length(config: ModelConfig, row: Sequence[int]) -> int:
    """How many tokens come before <sop>; none where there is none."""
    return row.index(config.bos_token_id) if config.bos_token_id in row else 0


def mask_position(config: ModelConfig, row: Sequence[int]) -> int:
    """Where the text that the model writes belongs: the first [gMASK], else the first [MASK], else at <sop>."""
    for token in (config.gmask_token_id, config.mask_token_id):
        if token in row:
            return row.index(token)
    return context_length(config, row)
