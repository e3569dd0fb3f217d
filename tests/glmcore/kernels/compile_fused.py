"""Run by test_cuda_linear.py: compiles every fused kernel to machine code for cards that are not here."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from glmcore.kernels.cuda import fused

FLOATS = ("x", "scale", "bias", "y", "out")


def compile_for(kernel, architecture: int, kind: str, **constants: object) -> int:
    """Bytes of machine code."""
    names = kernel.arg_names
    types = {name: f"*{kind}" if name in FLOATS else "*i8" if name == "weight" else "i32" for name in names}
    types |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, types, {(names.index(name),): value for name, value in constants.items()})
    return len(triton.compile(source, target=GPUTarget("cuda", architecture, 32)).asm["cubin"])


for architecture, kind in ((75, "fp16"), (90, "bf16")):
    for bits in (4, 8):
        flags = {"BITS": bits, "HAS_BIAS": True}
        sizes = [
            compile_for(fused.gemv_kernel, architecture, kind, **flags, ROWS=fused.GEMV_ROWS, BYTES=fused.GEMV_BYTES),
            compile_for(fused.expand_kernel, architecture, kind, BITS=bits, BYTES=fused.EXPAND_BYTES),
        ]
        for tokens in fused.GEMM_TOKENS:
            shape = {"TOKENS": tokens, "ROWS": fused.GEMM_ROWS, "BYTES": fused.GEMM_BYTES}
            sizes.append(compile_for(fused.gemm_kernel, architecture, kind, **flags, **shape))
        assert all(sizes)
