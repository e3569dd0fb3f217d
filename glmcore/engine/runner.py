"""Runs a model over one sequence: prefill, then one token after the other, on a cache that is kept between turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.engine.sequence import common_prefix
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState, is_causal, step_inputs
from glmcore.plan.planner import PREFILL_CHUNK

# The cache starts with one block and doubles, so that a long chat copies it only a few times.
CACHE_BLOCK = 512


class Runner:
    """A model with its cache. ``reused`` counts the prompt tokens that the last prefill found in the cache."""

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        self.model, self.config = model, config
        # The norms are never quantised: their type is that of the hidden states.
        dtype = next(parameter.dtype for name, parameter in model.named_parameters() if "norm" in name)
        self.cache = KVCache(config, 1, min(CACHE_BLOCK, config.max_length), dtype)
        self.held: list[int] = []  # the tokens whose keys and values are in the cache
        self.positions: PositionState | None = None
        self.reused = 0

    @torch.inference_mode()
    def prefill(self, prompt: Sequence[int]) -> Tensor:
        """Logits [V] after ``prompt``; what the cache holds of it already is not computed again."""
        self.reused = min(common_prefix(self.held, prompt), len(prompt) - 1) if is_causal(self.config) else 0
        self.cache.length = self.reused
        self.held = list(prompt)
        self.make_room(len(prompt))
        rest = torch.tensor([prompt[self.reused :]])
        if is_causal(self.config):
            for chunk in rest.split(PREFILL_CHUNK, dim=1):
                logits = self.model(chunk, cache=self.cache, last_only=True)
            return logits[0, -1]
        self.positions = PositionState(self.config, rest)
        return self.model(rest, cache=self.cache, last_only=True, **self.positions.prompt())[0, -1]

    @torch.inference_mode()
    def decode(self, token: int) -> Tensor:
        """Logits [V] after one more token."""
        self.make_room(len(self.held) + 1)
        self.held.append(token)
        ids = torch.tensor([[token]])
        inputs = step_inputs(self.positions, ids) if self.positions else {}
        return self.model(ids, cache=self.cache, last_only=True, **inputs)[0, -1]

    def make_room(self, length: int) -> None:
        capacity = self.cache.capacity
        while capacity < length:
            capacity *= 2
        self.cache.reserve(min(capacity, max(length, self.config.max_length)))
