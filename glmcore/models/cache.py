"""The KV cache: preallocated, before group expansion, rotary already applied to the keys."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.errors import GlmError

# What was taken out of a row: keys and values of each layer, [kv heads, tokens, head size].
Taken = list[tuple[Tensor, Tensor]]


class KVCache:
    """Keys and values of each layer, [batch, kv heads, capacity, head size]; the first ``length`` positions are filled.

    ``dtype`` and ``device`` are one for all layers or one for each. Setting ``length`` back forgets what came after.
    Before the first position ``prefix`` others may stand (``put_before``), which count neither in ``length`` nor in
    ``capacity``.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype | Sequence[torch.dtype] = torch.float32,
        device: torch.device | str | Sequence[torch.device | str] = "cpu",
    ) -> None:
        devices = [device] * config.num_layers if isinstance(device, (str, torch.device)) else device
        dtypes = [dtype] * config.num_layers if isinstance(dtype, torch.dtype) else dtype
        shape = (batch, config.num_kv_heads, capacity, config.head_dim)
        self.keys = [torch.zeros(shape, dtype=d, device=p) for d, p in zip(dtypes, devices, strict=True)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.length = self.prefix = 0

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2] - self.prefix

    @property
    def batch(self) -> int:
        return len(self.keys[0])

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, n, S, D] behind what is there; returns all keys and values [B, n, total, D] of the layer so far.

        They are views, unless the cache keeps another type than that of ``key``. Errors: GlmError("context-full") where
        they do not fit.
        """
        if self.length + key.shape[2] > self.capacity:
            count = self.length + key.shape[2]
            raise GlmError("context-full", f"{count} tokens do not fit into a cache of {self.capacity}")
        start = self.prefix + self.length
        end = start + key.shape[2]
        self.keys[layer][:, :, start:end] = key
        self.values[layer][:, :, start:end] = value
        return self.keys[layer][:, :, :end].to(key.dtype), self.values[layer][:, :, :end].to(value.dtype)

    def advance(self, count: int) -> None:
        """Called by the model once every layer holds the ``count`` new positions."""
        self.length += count

    def put_before(self, keys: Tensor, values: Tensor) -> None:
        """Let [layers, kv heads, P, head size] stand before the tokens, for every row of the batch."""
        self.keys = [_joined(before, tensor) for before, tensor in zip(keys, self.keys, strict=True)]
        self.values = [_joined(before, tensor) for before, tensor in zip(values, self.values, strict=True)]
        self.prefix = keys.shape[2]

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` positions; what is filled is kept."""
        if capacity > self.capacity:
            self.reshape(self.batch, capacity, [(row, row, self.length) for row in range(self.batch)])

    def reshape(self, rows: int, capacity: int, kept: Sequence[tuple[int, int, int]]) -> None:
        """So many rows of so many positions. kept: (row of now, row from now on, positions that are filled) of each."""
        keys = [self._moved(tensor, rows, capacity, kept) for tensor in self.keys]
        self.values = [self._moved(tensor, rows, capacity, kept) for tensor in self.values]
        self.keys = keys  # not before both are there: where memory runs out, all is as it was

    def view(self, row: int, length: int) -> KVCache:
        """A cache [1, …] of that row alone, on the same memory, with a length of its own. It may not grow."""
        view = copy.copy(self)
        if self.batch > 1:
            view.keys = [keys[row : row + 1] for keys in self.keys]
            view.values = [values[row : row + 1] for values in self.values]
        view.length = length
        return view

    def copy_row(self, source: int, target: int, count: int) -> None:
        """Let a row begin with the first ``count`` tokens of another one."""
        end = self.prefix + count
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :end] = tensor[source, :, :end]

    def take(self, row: int, count: int) -> Taken:
        """The first ``count`` tokens of a row, in memory of their own."""
        span = slice(self.prefix, self.prefix + count)
        return [(k[row, :, span].clone(), v[row, :, span].clone()) for k, v in zip(self.keys, self.values, strict=True)]

    def put(self, row: int, taken: Taken, count: int) -> None:
        """Let a row begin with the first ``count`` tokens of what was taken."""
        span = slice(self.prefix, self.prefix + count)
        for layer, (keys, values) in enumerate(taken):
            self.keys[layer][row, :, span] = keys[:, :count]
            self.values[layer][row, :, span] = values[:, :count]

    def _moved(self, tensor: Tensor, rows: int, capacity: int, kept: Sequence[tuple[int, int, int]]) -> Tensor:
        """Memory that nothing is copied to is not touched: rows that are not used take none."""
        _, heads, _, size = tensor.shape
        moved = tensor.new_zeros(rows, heads, self.prefix + capacity, size)
        moved[:, :, : self.prefix] = tensor[:1, :, : self.prefix]
        for old, new, length in kept:
            moved[new, :, : self.prefix + length] = tensor[old, :, : self.prefix + length]
        return moved


def _joined(before: Tensor, tensor: Tensor) -> Tensor:
    return torch.cat((before.to(tensor).expand(len(tensor), -1, -1, -1), tensor), dim=2)
