"""Decoding on a card as CUDA graphs: hundreds of launches become one, over a cache whose shape does not change.

A step of fixed shapes attends over a fixed number of positions and masks what is not filled. That number is a power of
two, and there is a graph for each one that comes up, so a step reads at most twice what is filled (``bound``), whatever
the cache has grown to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmcore.models.cache import KVCache
from glmcore.place.hops import pieces_of

WARM_UPS = 2  # libraries and self-tests want to run once before their calls are recorded
LEAST = 256  # positions that a step attends over at least: fewer would save nothing that can be measured


def bound(length: int, capacity: int) -> int:
    """The positions that a step reads where ``length`` are filled, of a cache of ``capacity``."""
    return min(max(LEAST, 1 << (length - 1).bit_length()), capacity)


class StaticCache:
    """The view of a ``KVCache`` in which one position of each row, ``place`` [B], is written.

    The first ``count`` are returned, after the prefix.
    """

    length = 1  # never empty: the prompt is there already

    def __init__(self, cache: KVCache, place: Tensor, count: int) -> None:
        self.keys, self.values, self.place, self.prefix = cache.keys, cache.values, place, cache.prefix
        self.end = cache.prefix + count
        self.rows = torch.arange(len(place), device=place.device)

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, n, 1, D], one position of each row; returns keys and values [B, n, prefix + count, D]."""
        for held, new in ((self.keys[layer], key), (self.values[layer], value)):
            held[self.rows, :, self.place] = new[:, :, 0].to(held.dtype)
        return self.keys[layer][:, :, : self.end].to(key.dtype), self.values[layer][:, :, : self.end].to(value.dtype)

    def advance(self, count: int) -> None:
        """The step's caller counts."""


class StaticStep:
    """One token for each row of ``cache``, in tensors that stay where they are."""

    def __init__(self, model: nn.Module, cache: KVCache) -> None:
        if model.prefix is not None:
            model.prefix.before(cache)
        device = cache.keys[0].device
        self.model, self.cache = model, cache
        self.keys = cache.keys  # a cache that grows gets new tensors, and the step is of no more use
        batch, positions = len(self.keys[0]), 2 if model.config.position_2d else 1
        shape = (batch, 2, 1) if positions == 2 else (batch, 1)
        self.ids = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self.positions = torch.zeros(shape, dtype=torch.int64, device=device)
        self.index = torch.zeros(batch, dtype=torch.int64, device=device)
        self.order = torch.arange(cache.capacity, device=device)

    @property
    def usable(self) -> bool:
        """Whether the cache still lies where it lay."""
        return self.cache.keys is self.keys

    def __call__(self, ids: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
        """Logits [B, V] after ``ids`` [B, 1], each on top of the ``lengths`` [B] tokens of its row (on the CPU).

        positions: [B, 1], or [B, 2, 1] where they have two parts. The logits are good until the next call.
        """
        self.ids.copy_(ids)
        self.positions.copy_(positions)
        self.index.copy_(lengths)
        return self.compute(bound(int(lengths.max()) + 1, self.cache.capacity))

    def compute(self, count: int) -> Tensor:
        """Logits [B, V] of the step over the first ``count`` positions."""
        mask = (self.order[:count] <= self.index[:, None])[:, None, None]
        view = StaticCache(self.cache, self.index + self.cache.prefix, count)
        logits = self.model(self.ids, position_ids=self.positions, attention_mask=mask, cache=view, last_only=True)
        return logits[:, -1]


class GraphStep(StaticStep):
    """The same, recorded once for each number of positions and replayed. The graphs share one pool of memory."""

    def __init__(self, model: nn.Module, cache: KVCache) -> None:
        super().__init__(model, cache)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def compute(self, count: int) -> Tensor:
        """As recorded: logits [B, V], good until the next replay."""
        if count not in self.graphs:
            self.graphs[count] = self.record(count)
        graph, logits = self.graphs[count]
        graph.replay()
        return logits

    def record(self, count: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """The graph of a step over ``count`` positions and its logits [B, V].

        What warming up writes into the cache, the step that follows writes again.
        """
        device = self.ids.device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                super().compute(count)
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph, pool=self.pool):
            logits = super().compute(count)
        return graph, logits


def can_record(model: nn.Module) -> bool:
    """Whether the whole model is on one card, so that no hidden state hops. (A prefix goes where the cache is.)"""
    pieces = [module for _, module in pieces_of(model)]
    devices = {tensor.device for piece in pieces for tensor in (*piece.parameters(), *piece.buffers())}
    return len(devices) == 1 and devices.pop().type == "cuda"
