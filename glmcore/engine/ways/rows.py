"""The sequences of one KV cache: each has a row of it, with a length and positions of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from glmcore.config import ModelConfig
from glmcore.engine.sequence import common_prefix
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState


class Rows:
    """A cache and what each of its rows holds: ``held``, the tokens whose keys and values are there.

    The cache's own ``length`` is that of the longest row. ``positions`` are of ChatGLM-6B alone: a token's depend on
    its row's prompt.
    """

    def __init__(self, config: ModelConfig, cache: KVCache) -> None:
        self.config, self.cache = config, cache
        self.held: list[list[int]] = [[] for _ in range(len(cache.keys[0]))]
        self.positions: list[PositionState | None] = [None for _ in self.held]

    def keep(self, row: int, prompt: Sequence[int]) -> int:
        """How many tokens of ``prompt`` the row holds already, one at least being left; the others it forgets."""
        held = self.held[row]
        kept = min(common_prefix(held, prompt), len(prompt) - 1) if self.config.traits.causal else 0
        self.hold(row, held[:kept])
        return kept

    def hold(self, row: int, tokens: Sequence[int]) -> None:
        """What the row holds from now on."""
        self.held[row] = list(tokens)
        self.cache.length = max(map(len, self.held))

    def add(self, row: int, token: int) -> None:
        """The row holds one token more."""
        self.held[row].append(token)
        self.cache.length = max(self.cache.length, len(self.held[row]))

    def view(self, row: int) -> KVCache:
        """A cache [1, …] of that row alone, on the same memory. It may not grow."""
        view = copy.copy(self.cache)
        if len(self.held) > 1:
            view.keys = [keys[row : row + 1] for keys in self.cache.keys]
            view.values = [values[row : row + 1] for values in self.cache.values]
        view.length = len(self.held[row])
        return view

    def make_room(self, length: int) -> None:
        """Room for so many tokens in every row; doubles, so that a long chat copies the cache only a few times."""
        capacity = self.cache.capacity
        while capacity < length:
            capacity *= 2
        self.cache.reserve(min(capacity, max(length, self.config.max_length)))
