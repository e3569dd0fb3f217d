"""The learnt prefix of P-Tuning v2: keys and values before the first token, which every token sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmcore.models.cache import KVCache


class Prefix(nn.Module):
    """``keys`` and ``values`` are [layers, kv heads, prefix length, head size].

    As in the original they are not rotated and take no positions: the prompt's first token is at position 0.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("values", values, persistent=False)

    def before(self, cache: KVCache) -> KVCache:
        """The cache with the prefix in front of its tokens."""
        if not cache.prefix:
            cache.put_before(self.keys, self.values)
        return cache


def prefix_of(table: Tensor, hidden: tuple[Tensor, ...], layers: int, kv_heads: int) -> Prefix:
    """The prefix that the original's encoder makes of its ``table`` [prefix length, ...], in float32.

    hidden: (weight [M, ...], bias [M], weight [N, M], bias [N]) of the two linears around a tanh that the table goes
    through; or nothing.
    """
    rows = table.float()
    if hidden:
        first, first_bias, second, second_bias = (tensor.float() for tensor in hidden)
        rows = torch.addmm(second_bias, torch.tanh(torch.addmm(first_bias, rows, first.T)), second.T)
    # Within a row the layers follow each other, each with its key and then its value.
    pairs = rows.view(len(rows), 2 * layers, kv_heads, -1).permute(1, 2, 0, 3)
    return Prefix(pairs[0::2].contiguous(), pairs[1::2].contiguous())
