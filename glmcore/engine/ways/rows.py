"""The sequences of one KV cache: each has a row of it, with a length and positions of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState

if TYPE_CHECKING:
    from glmcore.engine.stages.cache import StagedCache


class Rows:
    """A cache and what each of its rows holds: ``held``, the tokens whose keys and values are there.

    ``read`` counts the leading ones that are, to the bit, what the reading of a long prompt makes of them: the others
    were an answer's, or a short prompt's (``Way.short``). ``begun`` counts tokens that are in some layers already and
    held only once they are in all. The cache's own ``length`` is that of the longest row. ``positions`` are of
    ChatGLM-6B alone: a token's depend on its row's prompt. The memory itself is the cache's.
    """

    def __init__(self, config: ModelConfig, cache: KVCache | StagedCache) -> None:
        self.config, self.cache = config, cache
        self.held: list[list[int]] = []
        self.read: list[int] = []
        self.begun: list[int] = []
        self.positions: list[PositionState | None] = []
        self._fill_up()

    def __len__(self) -> int:
        return len(self.held)

    def hold(self, row: int, tokens: Sequence[int], read: int = 0) -> None:
        """What the row holds from now on."""
        self.held[row], self.read[row], self.begun[row] = list(tokens), read, 0
        self.cache.length = max(map(len, self.held))

    def add(self, row: int, tokens: Sequence[int]) -> None:
        """The row holds some tokens of its answer more."""
        self.held[row].extend(tokens)
        positions = self.positions[row]
        if positions is not None:
            positions.step(torch.tensor([tokens]))
        self.cache.length = max(self.cache.length, len(self.held[row]))

    def following(self, row: int, tokens: Sequence[int]) -> Tensor | None:
        """The positions of a row's next tokens: of ChatGLM-6B, [1, 2, S] or [1, S]; else None."""
        positions = self.positions[row]
        if positions is None:
            return None
        found = positions.step(torch.tensor([tokens]))["position_ids"]
        positions.back(len(tokens))
        return found

    def copy(self, source: int, target: int, count: int) -> None:
        """Let a row hold the first ``count`` tokens of another one."""
        if source != target:
            self.cache.copy_row(source, target, count)
        self.hold(target, self.held[source][:count], min(count, self.read[source]))
        self.positions[target] = copy.deepcopy(self.positions[source])

    def view(self, row: int) -> KVCache:
        """A cache [1, …] of that row alone, on the same memory. It may not grow."""
        return self.cache.view(row, len(self.held[row]))

    def next_of_all(self, tokens: Mapping[int, Sequence[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each row's next tokens side by side: their ids, rows and places among the row's own, int64 [S], and their
        positions as the model takes them, [1, S] or [1, 2, S]."""
        held = self.held
        found = [(row, len(held[row]) + i, token) for row, each in tokens.items() for i, token in enumerate(each)]
        numbers, places, ids = torch.tensor(found).T.contiguous()
        own = [self.following(row, each) for row, each in tokens.items()]
        known = [each for each in own if each is not None]
        return ids, numbers, places, torch.cat(known, dim=-1) if known else places[None]

    def make_room(self, length: int, rows: int = 1) -> None:
        """At least so many rows, with room for so many tokens each; both double."""
        capacity, count = self.capacity_for(length), doubled(len(self), rows)
        if (count, capacity) != (len(self), self.cache.capacity):
            filled = [max(len(held), begun) for held, begun in zip(self.held, self.begun, strict=True)]
            self.cache.reshape(count, capacity, [(row, row, length) for row, length in enumerate(filled)])
            self._fill_up()

    def keep_one(self, row: int) -> None:
        """Give back the memory of all rows but one, which is the first from now on."""
        held, read, positions = self.held[row], self.read[row], self.positions[row]
        self.cache.reshape(1, max(1, len(held)), [(row, 0, len(held))])
        self.held, self.read, self.begun, self.positions = [held], [read], [0], [positions]
        self.cache.length = len(held)

    def capacity_for(self, length: int) -> int:
        """Of a cache that has grown to ``length`` tokens: a long chat copies it only a few times."""
        own = self.cache.capacity
        return own if length <= own else min(doubled(own, length), max(length, self.config.max_length))

    def _fill_up(self) -> None:
        """Rows that are new hold nothing."""
        for _ in range(len(self), self.cache.batch):
            self.held.append([])
            self.read.append(0)
            self.begun.append(0)
            self.positions.append(None)


def doubled(number: int, least: int) -> int:
    """``number``, doubled until it is at least ``least``."""
    while number < least:
        number *= 2
    return number
