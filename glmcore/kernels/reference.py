"""What the kernels must compute, in torch and float64: the oracle of the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from glmcore.packing import dequantize

BLOCK = 128
# The largest integer that activations of so many bits are rounded to.
LARGEST = {8: 127, 16: 32639}


def linear(x: Tensor, weight: Tensor, scale: Tensor, bits: int, bias: Tensor | None = None) -> Tensor:
    """[M, K] · dequantised [N, K]ᵀ + bias in float64: precision ``exact``."""
    y = x.double() @ dequantize(weight, scale, bits, torch.float64).T
    return y if bias is None else y + bias.double()


def rounded(x: Tensor, bits: int) -> Tensor:
    """The float64 values that precision ``fast`` keeps of float32 [M, K]: 8 or 16 bits, one scale per 128 columns."""
    m, k = x.shape
    blocks = torch.nn.functional.pad(x.float(), (0, -k % BLOCK)).view(m, -1, BLOCK)
    largest = blocks.abs().amax(dim=-1, keepdim=True)
    # In float32 and by the reciprocal, as the kernels do: ties must fall the same way.
    # (127 / largest would be largest.reciprocal() * 127 in torch.)
    most = LARGEST[bits]
    inverse = torch.full_like(largest, most).div(largest)
    steps = torch.where(largest > 1e-35, blocks * inverse, torch.zeros_like(blocks)).round()
    return (steps.double() * (largest / most).double()).view(m, -1)[:, :k]


def full_scale(x: Tensor, scale: Tensor, bits: int, bias: Tensor | None = None) -> Tensor:
    """[M, N]: what the largest weights would give with all signs alike; float32 rounding errs by a share of it."""
    size = x.double().abs().sum(dim=-1, keepdim=True) * (scale.double() * 2 ** (bits - 1))
    return size if bias is None else size + bias.double().abs()
