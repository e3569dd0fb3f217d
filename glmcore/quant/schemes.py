"""The original quantisation: symmetric, one scale per output row, int8 or two int4 values per byte.

``q = round(w / scale)`` with ``scale = max|w| / (2**(bits-1) - 1)``; ``glmcore.packing`` says how they are stored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glmcore.checkpoint.memory import huge_empty
from glmcore.packing import pack_int4, packed_columns

# Values that ``quantize_matrix`` works on at a time: half a megabyte in 16 bits.
CHUNK_VALUES = 1 << 18


def quantize_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """[N, K] floats → (packed int8 [N, K·bits/8], scale [N]).

    The division happens in the weight's own type, and half types keep it for the scale; float32 weights get float16
    scales. That gives the original's bytes: ChatGLM2 and later divide in half precision, ChatGLM-6B in float32, so
    its float16 weights are to be passed as ``weight.float()``. Errors: those of ``packed_columns``.
    """
    packed_columns(weight.shape[-1], bits)
    limit = 2 ** (bits - 1) - 1
    half = torch.float16 if weight.dtype == torch.float32 else weight.dtype
    scale = (weight.abs().amax(dim=-1) / limit).to(half)
    # A row of zeros has scale 0; dividing it by 1 keeps it zero instead of NaN.
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale).to(weight.dtype)
    # A scale that float16 rounds down (subnormal ones most) would push the largest value past the limit.
    values = torch.round(weight / divisor[..., None]).clamp_(-limit, limit).to(torch.int8)
    return (pack_int4(values) if bits == 4 else values), scale


def quantize_matrix(
    rows: Callable[[int, int], Tensor], shape: tuple[int, ...], bits: int, *, in_float32: bool = False
) -> tuple[Tensor, Tensor]:
    """``quantize_rows`` of a matrix of ``shape`` [N, K] that ``rows(first, last)`` gives in parts: never a whole one.

    Returns packed int8 [N, K·bits/8] and scales [N] in the type of 16 bits that the parts have (float16 for float32).
    ``in_float32`` divides as ChatGLM-6B's quantiser does. Errors: those of ``packed_columns``.
    """
    packed = huge_empty((shape[0], packed_columns(shape[1], bits)), torch.int8)
    # Made before the parts come and go: what is kept between them would hold their memory back.
    scales, step = torch.empty(shape[0]), max(1, CHUNK_VALUES // shape[1])
    for first in range(0, shape[0], step):
        last = min(first + step, shape[0])
        part = rows(first, last)
        packed[first:last], scales[first:last] = quantize_rows(part.float() if in_float32 else part, bits)
    # float32 rows would have float16 scales either way; a type of 16 bits keeps its own.
    return packed, scales.to(part.dtype if part.dtype != torch.float32 else torch.float16)
