"""Decoding on a card as a CUDA graph: hundreds of launches become one, over a cache whose shape does not change.

A step of fixed shapes attends over the whole capacity and masks what is not filled. That reads up to twice the cache
and saves the processor's time for each launch, which at one token is the larger part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmcore.models.cache import KVCache

WARM_UPS = 2  # libraries and self-tests want to run once before their calls are recorded


class StaticCache:
    """The view of a ``KVCache`` in which one position, held in a tensor, is written and everything is returned."""

    length, prefix = 1, 0  # never empty: the prompt is there already

    def __init__(self, cache: KVCache, index: Tensor) -> None:
        self.keys, self.values, self.index = cache.keys, cache.values, index

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        for held, new in ((self.keys[layer], key), (self.values[layer], value)):
            held.index_copy_(2, self.index, new.to(held.dtype))
        return self.keys[layer].to(key.dtype), self.values[layer].to(value.dtype)

    def advance(self, count: int) -> None:
        """The step's caller counts."""


class StaticStep:
    """One token for each row of ``cache``, in tensors that stay where they are."""

    def __init__(self, model: nn.Module, cache: KVCache) -> None:
        device = cache.keys[0].device
        self.model, self.cache = model, cache
        self.keys = cache.keys  # a cache that grows gets new tensors, and the step is of no more use
        batch, positions = len(self.keys[0]), 2 if model.config.position_2d else 1
        shape = (batch, 2, 1) if positions == 2 else (batch, 1)
        self.ids = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        self.positions = torch.zeros(shape, dtype=torch.int64, device=device)
        self.index = torch.zeros(1, dtype=torch.int64, device=device)
        self.order = torch.arange(cache.capacity, device=device)

    @property
    def usable(self) -> bool:
        """Whether the cache still lies where it lay."""
        return self.cache.keys is self.keys

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits [B, V] after ``ids`` [B, 1], which go on top of the cache; good until the next call."""
        self.ids.copy_(ids)
        self.positions.copy_(positions)
        self.index.fill_(self.cache.length)
        logits = self.compute()
        self.cache.advance(1)
        return logits

    def compute(self) -> Tensor:
        mask = (self.order <= self.index)[None, None, None]
        view = StaticCache(self.cache, self.index)
        logits = self.model(self.ids, position_ids=self.positions, attention_mask=mask, cache=view, last_only=True)
        return logits[:, -1]


class GraphStep(StaticStep):
    """The same, recorded once and replayed."""

    def __init__(self, model: nn.Module, cache: KVCache) -> None:
        super().__init__(model, cache)
        self.index.fill_(cache.length)  # what warming up writes there, the first step writes again
        stream = torch.cuda.Stream(self.ids.device)
        stream.wait_stream(torch.cuda.current_stream(self.ids.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                super().compute()
        torch.cuda.current_stream(self.ids.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.ids.device), torch.cuda.graph(self.graph):
            self.logits = super().compute()

    def compute(self) -> Tensor:
        self.graph.replay()
        return self.logits


def can_record(model: nn.Module) -> bool:
    """Whether the whole model is on one card, with nothing before the cache and no hidden state that hops."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    return len(devices) == 1 and devices.pop().type == "cuda" and model.prefix is None
