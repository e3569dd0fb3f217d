"""Run by test_cuda_linear.py with TRITON_INTERPRET=1: prints the errors of the fused products as JSON."""

from __future__ import annotations

import json

import torch

from glmcore.kernels.cuda import fused
from glmcore.kernels.cuda.choice import largest_error
from glmcore.packing import dequantize


def errors(bits: int, dtype: torch.dtype, tokens: int, rows: int, columns: int, bias: bool) -> float:
    generator = torch.Generator().manual_seed(tokens + rows)
    x = torch.randn(2, tokens, columns, generator=generator).to(dtype)[:1]
    weight = torch.randint(-128, 128, (rows, columns * bits // 8), dtype=torch.int8, generator=generator)
    scale = (torch.rand(rows, generator=generator) / 16).to(dtype)
    added = torch.randn(rows, generator=generator).to(dtype) if bias else None
    exact = x.double() @ dequantize(weight, scale, bits, torch.float64).T
    exact = exact if added is None else exact + added.double()
    got = fused.linear(x, weight, scale, added, bits)
    assert got.shape == exact.shape and got.dtype == dtype
    return float((got.double() - exact).abs().max() / exact.abs().max())


CASES = [
    (bits, dtype, tokens, rows, columns, bias)
    for bits in (4, 8)
    for dtype in (torch.float16, torch.float32)
    for tokens, rows, columns, bias in (
        (1, 37, 1090, True),
        (1, 8, 64, False),
        (3, 33, 130, True),
        (17, 40, 258, False),
    )
]
found = {str(case): errors(*case) for case in CASES}
found["self-test"] = largest_error(fused.linear, torch.device("cpu"))
print(json.dumps(found))
