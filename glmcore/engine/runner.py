"""Runs a model over one sequence: prefill, then one token after the other, on a cache that is kept between turns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glmcore.config import ModelConfig
from glmcore.engine.backend import describe_backend
from glmcore.engine.ways import Rows, way_for
from glmcore.models.cache import KVCache

# The cache starts with one block and doubles, so that a long chat copies it only a few times.
CACHE_BLOCK = 512


class Runner:
    """A model with its cache, run the way that suits it.

    ``kept``: the name of the type of keys and values on the CPU, where it is not that of the computing. ``reused``
    counts the prompt tokens that the last prefill found in the cache.
    """

    def __init__(self, model: nn.Module, config: ModelConfig, kept: str | None = None) -> None:
        self.model, self.config, self.kept = model, config, kept
        self.reused = 0
        self.forget()

    def forget(self) -> None:
        """An empty cache, where the model's layers are now, and the way to run them there."""
        capacity = min(CACHE_BLOCK, self.config.max_length)
        self.cache = KVCache(self.config, 1, capacity, cache_dtypes(self.model, self.kept), layer_devices(self.model))
        self.way = way_for(self.model, Rows(self.config, self.cache))

    def prefill(self, prompt: Sequence[int]) -> Tensor:
        """Logits [V] after ``prompt``; what the cache holds of it already is not computed again."""
        self.reused = self.way.reusable(0, prompt)
        return self.way.prefill({0: prompt})[0]

    def decode(self, token: int) -> Tensor:
        """Logits [V] after one more token; good until the next call."""
        return self.way.decode({0: token})[0]

    @property
    def device(self) -> torch.device:
        """Where token ids belong."""
        return self.way.device

    @property
    def layer_devices(self) -> list[str]:
        """The device of each layer, by name."""
        return [str(device) for device in layer_devices(self.model)]

    @property
    def weights_bytes(self) -> int:
        return bytes_of(self.model)

    def describe_backend(self) -> str:
        """What computes the layers, in words."""
        return describe_backend(self.model)


def bytes_of(model: nn.Module) -> int:
    """What a model's tensors take, each counted once."""
    return sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()})


def layer_dtypes(model: nn.Module) -> list[torch.dtype]:
    """The type that each layer computes in, which is that of its norms."""
    return [layer.input_layernorm.weight.dtype for layer in model.layers]


def cache_dtypes(model: nn.Module, kept: str | None) -> list[torch.dtype]:
    """The type of each layer's keys and values: what it computes in, or ``kept`` on the CPU where that is given."""
    pairs = zip(layer_dtypes(model), layer_devices(model), strict=True)
    return [getattr(torch, kept) if kept and device.type == "cpu" else dtype for dtype, device in pairs]


def layer_devices(model: nn.Module) -> list[torch.device]:
    """The device of each layer, which is that of its keys and values."""
    return [next(layer.parameters()).device for layer in model.layers]
