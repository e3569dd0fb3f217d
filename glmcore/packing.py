"""How quantised weights lie in memory: int8, or two int4 values per byte; the ground of quantisers and kernels.

An int4 byte holds two neighbouring columns in two's complement: the even column in the high nibble, the odd one in the
low nibble. One scale per row makes floats of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glmcore.errors import GlmError

BITS = (4, 8)


def packed_columns(columns: int, bits: int) -> int:
    """How many bytes a row of ``columns`` weights takes.

    Errors: GlmError("usage") for other bits than 4 and 8, GlmError("config-invalid") for an odd number in int4.
    """
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


def dequantize(packed: Tensor, scale: Tensor, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Packed int8 rows [..., K·bits/8] and their scales [...] → [..., K] floats of ``dtype``."""
    values = unpack_int4(packed) if bits == 4 else packed
    return values.to(dtype) * scale.to(dtype)[..., None]


def from_words(words: Tensor) -> Tensor:
    """[N, W] int32, eight values of 0..15 each from the lowest bits on (compressed-tensors) → [N, 4 W] int8 bytes."""
    pairs = words.contiguous().view(torch.uint8)
    return (((pairs << 4) | (pairs >> 4)) ^ 0x88).view(torch.int8)


def to_words(packed: Tensor) -> Tensor:
    """The way back, for rows of a multiple of eight values: [N, 4 W] int8 bytes → [N, W] int32.

    Errors: GlmError("config-invalid") for other rows.
    """
    if packed.shape[-1] % 4:
        columns = 2 * packed.shape[-1]
        raise GlmError("config-invalid", f"words hold eight int4 values each, which {columns} columns do not fill")
    pairs = packed.contiguous().view(torch.uint8) ^ 0x88
    return ((pairs << 4) | (pairs >> 4)).view(torch.int32)
