"""Embeddings and linears that keep 16 bits in a model that computes in float32: half the memory, the same values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from glmcore.kernels.load import Kernel

# Values that are expanded at a time: few enough to stay in the processor's second cache.
VALUES = 1 << 17


class HalfEmbedding(nn.Embedding):
    """Looks rows up in 16 bits and returns them in ``dtype``."""

    def __init__(self, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(rows, columns, device=device)
        self.dtype = dtype

    @classmethod
    def of(cls, plain: nn.Embedding, dtype: torch.dtype) -> HalfEmbedding:
        """With the weight of ``plain``."""
        half = cls(*plain.weight.shape, dtype, torch.device("meta"))
        half.weight = plain.weight
        return half

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape [...] → their rows [..., columns] in ``dtype``."""
        return super().forward(ids).to(self.dtype)


class HalfLinear(nn.Linear):
    """A linear whose weight keeps 16 bits; a bias and what it returns have the type of its input."""

    kernel: Kernel | None = None

    @classmethod
    def of(cls, plain: nn.Linear) -> HalfLinear:
        """With the weight and bias of ``plain``."""
        half = cls(plain.in_features, plain.out_features, bias=False, device="meta")
        half.weight, half.bias = plain.weight, plain.bias
        return half

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out] in the type of ``x``."""
        y = self.product(x)
        return y if self.bias is None else y.add_(self.bias.to(y.dtype))

    def product(self, x: Tensor) -> Tensor:
        """``forward`` without the bias: [..., in] → [..., out]."""
        if x.dtype == self.weight.dtype:
            return F.linear(x, self.weight)
        if self.kernel is not None and self.kernel.takes16(x, self.weight):
            return self.kernel.linear16(x, self.weight)
        y = x.new_empty(*x.shape[:-1], self.out_features)
        count = max(1, VALUES // self.in_features)
        for start in range(0, self.out_features, count):  # slices, through which gradients may flow
            rows = self.weight[start : start + count]
            y[..., start : start + count] = F.linear(x, rows.to(x.dtype))
        return y
