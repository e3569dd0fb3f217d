"""Fused int4 and int8 products in Triton: the packed weights are read once and expanded in registers.

One scale for each output row can wait until the sum is complete. An int4 byte holds two neighbouring columns,
so the even and the odd activations are multiplied apart and nothing has to be interleaved.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

# Rows and bytes of a row that a program of the product with one vector works on.
GEMV_ROWS, GEMV_BYTES = 8, 512
# Tiles of the product with several vectors; the dot product of a card needs 16 rows at least.
GEMM_TOKENS, GEMM_ROWS, GEMM_BYTES = (16, 64), 32, 64
# From here on expanding the matrix once and multiplying it by the library's own product is faster.
FUSED_TOKENS = 256
EXPAND_BYTES = 1024


@triton.jit
def gemv_kernel(
    x, weight, scale, bias, y, n, k_bytes,
    BITS: tl.constexpr, HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """y[n] = scale[n] · Σ weight[n, k] x[k] + bias[n]."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = rows < n
    total = tl.zeros((ROWS, BYTES), tl.float32)
    for start in range(0, k_bytes, BYTES):
        at = start + tl.arange(0, BYTES)
        inside = at < k_bytes
        places = rows[:, None].to(tl.int64) * k_bytes + at[None, :]
        packed = tl.load(weight + places, mask=real[:, None] & inside[None, :], other=0).to(tl.int32)
        if BITS == 4:
            even = tl.load(x + 2 * at, mask=inside, other=0.0).to(tl.float32)
            odd = tl.load(x + 2 * at + 1, mask=inside, other=0.0).to(tl.float32)
            total += (packed >> 4).to(tl.float32) * even[None, :]
            total += ((packed << 28) >> 28).to(tl.float32) * odd[None, :]
        else:
            total += packed.to(tl.float32) * tl.load(x + at, mask=inside, other=0.0).to(tl.float32)[None, :]
    out = tl.sum(total, axis=1) * tl.load(scale + rows, mask=real, other=0.0).to(tl.float32)
    if HAS_BIAS:
        out += tl.load(bias + rows, mask=real, other=0.0).to(tl.float32)
    tl.store(y + rows, out.to(y.dtype.element_ty), mask=real)


@triton.jit
def gemm_kernel(
    x, weight, scale, bias, y, m, n, k_bytes,
    BITS: tl.constexpr, HAS_BIAS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """y[m, n] = scale[n] · Σ x[m, k] weight[n, k] + bias[n]."""
    tokens = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    asked, real = tokens < m, rows < n
    width = k_bytes * 8 // BITS
    total = tl.zeros((TOKENS, ROWS), tl.float32)
    for start in range(0, k_bytes, BYTES):
        at = start + tl.arange(0, BYTES)
        inside = at < k_bytes
        places = rows[None, :].to(tl.int64) * k_bytes + at[:, None]
        packed = tl.load(weight + places, mask=real[None, :] & inside[:, None], other=0).to(tl.int32)
        line = x + tokens[:, None].to(tl.int64) * width
        mask = asked[:, None] & inside[None, :]
        if BITS == 4:
            even = tl.load(line + 2 * at[None, :], mask=mask, other=0.0)
            odd = tl.load(line + 2 * at[None, :] + 1, mask=mask, other=0.0)
            total += tl.dot(even, (packed >> 4).to(even.dtype))
            total += tl.dot(odd, ((packed << 28) >> 28).to(odd.dtype))
        else:
            part = tl.load(line + at[None, :], mask=mask, other=0.0)
            total += tl.dot(part, packed.to(part.dtype))
    out = total * tl.load(scale + rows, mask=real, other=0.0).to(tl.float32)[None, :]
    if HAS_BIAS:
        out += tl.load(bias + rows, mask=real, other=0.0).to(tl.float32)[None, :]
    places = tokens[:, None].to(tl.int64) * n + rows[None, :]
    tl.store(y + places, out.to(y.dtype.element_ty), mask=asked[:, None] & real[None, :])


@triton.jit
def expand_kernel(weight, scale, out, k_bytes, BITS: tl.constexpr, BYTES: tl.constexpr):
    """out[n, k] = weight[n, k] · scale[n]."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BYTES + tl.arange(0, BYTES)
    inside = at < k_bytes
    packed = tl.load(weight + row * k_bytes + at, mask=inside, other=0).to(tl.int32)
    factor = tl.load(scale + row).to(tl.float32)
    kind = out.dtype.element_ty
    if BITS == 4:
        place = out + 2 * (row * k_bytes + at)
        tl.store(place, ((packed >> 4).to(tl.float32) * factor).to(kind), mask=inside)
        tl.store(place + 1, (((packed << 28) >> 28).to(tl.float32) * factor).to(kind), mask=inside)
    else:
        tl.store(out + row * k_bytes + at, (packed.to(tl.float32) * factor).to(kind), mask=inside)


def linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """``x · dequantize(weight)ᵀ + bias`` in the type of ``x``, summed in float32.

    x [..., K], weight int8 [N, K·bits/8], scale and bias [N] → [..., N].
    """
    lines = x.reshape(-1, x.shape[-1]).contiguous()
    # Triton starts its programs on the current card, which need not be the one that holds the tensors.
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        if len(lines) <= FUSED_TOKENS:
            return fused(lines, weight, scale, bias, bits).view(*x.shape[:-1], len(weight))
        return F.linear(x, expand(weight, scale, bits, x.dtype), None if bias is None else bias.to(x.dtype))


def fused(lines: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """The same for [M, K] without an expanded copy of the matrix."""
    m, (n, k_bytes) = len(lines), weight.shape
    y = torch.empty(m, n, dtype=lines.dtype, device=lines.device)
    shared = (weight, scale, bias if bias is not None else scale, y)
    if m == 1:
        gemv_kernel[(triton.cdiv(n, GEMV_ROWS),)](
            lines, *shared, n, k_bytes, BITS=bits, HAS_BIAS=bias is not None, ROWS=GEMV_ROWS, BYTES=GEMV_BYTES
        )
    elif m:
        tokens = GEMM_TOKENS[m > GEMM_TOKENS[0]]
        gemm_kernel[(triton.cdiv(n, GEMM_ROWS), triton.cdiv(m, tokens))](
            lines, *shared, m, n, k_bytes,
            BITS=bits, HAS_BIAS=bias is not None, TOKENS=tokens, ROWS=GEMM_ROWS, BYTES=GEMM_BYTES,
        )  # fmt: skip
    return y


def expand(weight: Tensor, scale: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Packed [N, K] and its scales → [N, K] in ``dtype``, in one pass."""
    n, k_bytes = weight.shape
    out = torch.empty(n, k_bytes * 8 // bits, dtype=dtype, device=weight.device)
    expand_kernel[(n, triton.cdiv(k_bytes, EXPAND_BYTES))](weight, scale, out, k_bytes, BITS=bits, BYTES=EXPAND_BYTES)
    return out
