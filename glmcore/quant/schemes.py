"""The original quantisation: symmetric, one scale per output row, int8 or two int4 values per byte.

``q = round(w / scale)`` with ``scale = max|w| / (2**(bits-1) - 1)``.  An int4 byte holds two neighbouring
columns in two's complement: the even column in the high nibble, the odd one in the low nibble.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glmcore.checkpoint.memory import huge_empty
from glmcore.errors import GlmError

BITS = (4, 8)
# Values that ``quantize_matrix`` works on at a time: half a megabyte in 16 bits.
CHUNK_VALUES = 1 << 18


def packed_columns(columns: int, bits: int) -> int:
    """How many bytes a row of ``columns`` weights takes."""
    if bits not in BITS:
        raise GlmError("usage", f"quantisation to {bits} bits does not exist", hint="choose 4 or 8")
    if bits == 4 and columns % 2:
        raise GlmError("config-invalid", f"int4 packs columns in pairs, and {columns} is odd")
    return columns // 2 if bits == 4 else columns


def pack_int4(values: Tensor) -> Tensor:
    """[N, K] int8 values in -8..7 → [N, K/2] int8 bytes."""
    packed_columns(values.shape[-1], 4)
    return (values[..., 0::2] << 4) | (values[..., 1::2] & 0x0F)


def unpack_int4(packed: Tensor) -> Tensor:
    """[N, K/2] int8 bytes → [N, K] int8 values in -8..7."""
    # >> on int8 is arithmetic, so shifting a nibble to the top and back extends its sign.
    return torch.stack((packed >> 4, (packed << 4) >> 4), dim=-1).flatten(-2)


def quantize_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """[N, K] floats → (packed int8, scale [N]).

    The division happens in the weight's own type, and half types keep it for the scale; float32 weights get float16
    scales. That gives the original's bytes: ChatGLM2 and later divide in half precision, ChatGLM-6B in float32, so
    its float16 weights are to be passed as ``weight.float()``.
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
    """``quantize_rows`` of a matrix that ``rows(first, last)`` gives in parts: it is never in memory as a whole.

    ``in_float32`` divides as ChatGLM-6B's quantiser does.
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


def dequantize(packed: Tensor, scale: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Packed rows and their scales → [N, K] floats."""
    values = unpack_int4(packed) if bits == 4 else packed
    return values.to(dtype) * scale.to(dtype)[..., None]
