"""The caches of transformers in the place of glmcore's own."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from glmcore.errors import GlmError
from glmcore.models.inputs import PositionState

# Under which name a cache is passed on: transformers 5.24 renamed ``past_key_values``. Our own methods take both.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"
MEMORY = "_glmcore_prompt"


@dataclass
class Prompt:
    """What ChatGLM-6B has to know of the prompt when it goes on behind it."""

    prefix: int  # learnt positions before the prompt's first token
    state: PositionState


class CacheAdapter:
    """A transformers cache in the place of ``KVCache``.

    ``length`` counts the positions filled before this forward, without the ``prefix``.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache, self.length, self.prefix = cache, int(cache.get_seq_length()), 0
        self.known: Prompt | None = getattr(cache, MEMORY, None) if self.length else None
        if self.known is not None:
            self.prefix = self.known.prefix
            self.length -= self.prefix

    def put_behind(self, state: PositionState) -> None:
        """The prompt of ``state`` comes now; what is filled already is a learnt prefix (PEFT's prefix tuning)."""
        self.prefix, self.length = self.length, 0
        setattr(self.cache, MEMORY, Prompt(self.prefix, state))

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, n, S, D] behind what is there; returns all keys and values [B, n, total, D] of the layer so far."""
        start = self.prefix + self.length
        end = start + key.shape[2]
        places = torch.arange(start, end, device=key.device)
        keys, values = self.cache.update(key, value, layer, {"cache_position": places})
        # A static cache returns its whole capacity.
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, count: int) -> None:
        """The cache counts by itself."""


def filled_of(cache: Cache | None) -> int:
    return 0 if cache is None else int(cache.get_seq_length())


def one_of(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """The cache under either of its names. Errors: GlmError("usage") where both are given."""
    if cache is not None and past_key_values is not None:
        raise GlmError("usage", "cache and past_key_values are two names of one argument", hint="give one of them")
    return past_key_values if cache is None else cache
