"""The original's way on a card: cpm_kernels expands the whole matrix to float16, then torch multiplies.

cpm_kernels is imported when the backend is opened: its import raises where no driver is loaded.
"""

from __future__ import annotations

import ctypes
import functools
from importlib import resources
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

THREADS = 256


def linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """``x · dequantize(weight)ᵀ + bias`` in the type of ``x``, by an expanded copy of the matrix.

    x [..., K], weight int8 [N, K·bits/8], scale and bias [N] → [..., N].
    """
    expanded = expand(weight, scale, bits).to(x.dtype)
    return F.linear(x, expanded, None if bias is None else bias.to(x.dtype))


def expand(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Packed [N, K] and its scales → float16 [N, K]."""
    rows, packed = weight.shape
    out = torch.empty(rows, packed * 8 // bits, dtype=torch.float16, device=weight.device)
    floats = scale.float()
    with torch.cuda.device(weight.device):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (weight, floats, out)]
        kernel = functions(weight.device.index or 0)[bits]
        kernel((rows, 1, 1), (THREADS, 1, 1), 0, stream, [*pointers, ctypes.c_int(packed)])
    return out


@functools.cache
def functions(device: int) -> dict[int, Any]:
    """Bits → the kernel, compiled by NVRTC for the card and launched by cpm_kernels."""
    from cpm_kernels.kernels.base import KernelFunction, LazyKernelCModule

    major, minor = torch.cuda.get_device_capability(device)
    module = LazyKernelCModule(compile_ptx(f"compute_{major}{minor}"))
    return {bits: KernelFunction(module, f"extract_int{bits}") for bits in (4, 8)}


def compile_ptx(architecture: str) -> bytes:
    """PTX of extract.cu, by cpm_kernels' own NVRTC."""
    from cpm_kernels.library import nvrtc

    source = resources.files("glmcore.kernels.cuda").joinpath("extract.cu").read_text(encoding="utf-8")
    program = nvrtc.nvrtcProgram()
    nvrtc.nvrtcCreateProgram(program, source, "extract.cu", 0, [], [])
    try:
        nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={architecture}"])
        text = ctypes.create_string_buffer(nvrtc.nvrtcGetPTXSize(program))
        nvrtc.nvrtcGetPTX(program, text)
        return text.raw
    finally:
        nvrtc.nvrtcDestroyProgram(program)
