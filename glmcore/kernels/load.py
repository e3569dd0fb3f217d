"""The verified library as a ``Kernel`` that takes torch tensors."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import time

import torch
from torch import Tensor

from glmcore.errors import GlmError
from glmcore.kernels import abi
from glmcore.kernels.abi import NO_MEMORY, NOT_FINITE, PRECISIONS
from glmcore.kernels.build import KernelError, KernelLibrary, ensure_kernel
from glmcore.kernels.opening import opened
from glmcore.kernels.threads import default_threads

TYPES = (torch.float32, torch.float16, torch.bfloat16)
# Activation rows up to which reading 16-bit weights row by row beats expanding them for torch's matrix product.
FEW_ROWS = 4
KERNEL_FILE = "GLMCORE_KERNEL_FILE"

log = logging.getLogger("glmcore")


class Kernel:
    """Quantised linear algebra on the CPU. ``precision``: ``exact`` keeps float32's precision of activations, ``fast``
    16 bits of few rows and 8 of many, ``light`` 8 of both."""

    def __init__(self, library: KernelLibrary, *, threads: int | None = None, precision: str = "exact") -> None:
        if precision not in PRECISIONS:
            raise GlmError("usage", f"no precision {precision!r}", hint=f"choose from {', '.join(PRECISIONS)}")
        self.library, self.precision = library, precision
        self.threads = threads or default_threads()
        # Torch's own OpenMP runtime is loaded for everybody to see, so the library's calls are bound to it: one pool of
        # threads for both, which is why torch must be imported first (it is, above).
        code = declared(library)
        code.glm_read_by(abi.Reading(*library.reading))
        self._linear, self._linear16, self._read = code.glm_linear, code.glm_linear16, code.glm_read
        self.packed_function, self.half_function = code.glm_linear, code.glm_linear16  # for who calls them from C
        self._step, self._step_bytes = code.glm_step, code.glm_step_bytes

    @property
    def precision_number(self) -> int:
        """As the library counts them."""
        return PRECISIONS.index(self.precision)

    @property
    def name(self) -> str:
        """For statistics: instruction set, precision, threads."""
        return f"{self.library.isa} {self.precision}, {self.threads} thread{'s' * (self.threads != 1)}"

    def takes(self, x: Tensor) -> bool:
        """Whether ``linear`` can have this input [..., K]; it computes no gradients."""
        return x.device.type == "cpu" and x.dtype in TYPES and not (torch.is_grad_enabled() and x.requires_grad)

    def linear(self, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None, *, bits: int) -> Tensor:
        """[..., K] times packed [N, K]ᵀ (int8 [N, K·bits/8]), plus bias, in the input's type.

        ``scale`` and ``bias`` are float32 [N]. Errors: ValueError for other shapes and types, GlmError("not-finite",
        "memory-short").
        """
        n, k = weight.shape[0], x.shape[-1]
        # The library reads raw memory: everything that it relies on is checked here.
        if weight.dtype != torch.int8 or not weight.is_contiguous() or weight.shape != (n, k * bits // 8):
            raise ValueError(f"int{bits} weight of shape {tuple(weight.shape)} does not fit an input of width {k}")
        for vector in (scale, bias):
            if vector is not None and (vector.dtype != torch.float32 or vector.shape != (n,)):
                raise ValueError(f"scale and bias must be {n} float32 values")
        rows = x.to(torch.float32).contiguous()
        y = torch.empty(*x.shape[:-1], n, dtype=torch.float32)
        status = self._linear(
            bits, self.precision_number, weight.data_ptr(), scale.contiguous().data_ptr(),
            None if bias is None else bias.contiguous().data_ptr(),
            rows.data_ptr(), y.data_ptr(), rows.numel() // k, n, k, self.threads,
        )  # fmt: skip
        if status:
            raise failure(status)
        return y.to(x.dtype)

    def takes16(self, x: Tensor, weight: Tensor) -> bool:
        """Whether ``linear16`` can have this input [..., K] and weight [N, K] and is the faster way for them."""
        halves = weight.dtype in (torch.float16, torch.bfloat16) and weight.device.type == "cpu"
        return halves and self.takes(x) and x.numel() <= FEW_ROWS * x.shape[-1]

    def linear16(self, x: Tensor, weight: Tensor) -> Tensor:
        """[..., K] times float16 or bfloat16 [N, K]ᵀ, in the input's type, computed in float32.

        Errors: as ``linear``.
        """
        n, k = weight.shape
        if not weight.is_contiguous() or x.shape[-1] != k:
            raise ValueError(f"weight of shape {tuple(weight.shape)} does not fit an input of width {x.shape[-1]}")
        rows = x.to(torch.float32).contiguous()
        y = torch.empty(*x.shape[:-1], n, dtype=torch.float32)
        status = self._linear16(
            weight.dtype == torch.bfloat16, weight.data_ptr(), rows.data_ptr(), y.data_ptr(),
            rows.numel() // k, n, k, self.threads,
        )  # fmt: skip
        if status:
            raise failure(status)
        return y.to(x.dtype)

    def step_bytes(self, model: abi.Model, tokens: abi.Tokens) -> int:
        """Bytes of working memory that ``step`` needs."""
        return self._step_bytes(model, tokens, self.threads)

    def step(self, model: abi.Model, tokens: abi.Tokens, memory: int) -> None:
        """Run a whole model over some tokens (cpu/step.h); ``memory`` is an address, a multiple of 64.

        Errors: GlmError("not-finite", "memory-short"), ValueError for what the library refuses.
        """
        status = self._step(model, tokens, memory, self.threads)
        if status:
            raise failure(status)

    def read_bandwidth(self, data: Tensor) -> float:
        """GB/s of reading ``data``, of any shape, once as decoding reads weights: what decoding is held against."""
        started = time.perf_counter()
        self._read(data.data_ptr(), data.nbytes, self.threads)
        return data.nbytes / (time.perf_counter() - started) / 1e9


def declared(library: KernelLibrary) -> ctypes.CDLL:
    """The verified library, its functions typed; raises ``KernelError`` where its interface is not abi.py's."""
    code = opened(library.path, library.sha256)
    try:
        abi.declare(code)
    except abi.Mismatch as error:
        raise KernelError("kernel-file", f"the kernel cannot be used: {error}", stage="symbols",
                          where=str(library.path), hint="start again") from error  # fmt: skip
    return code


def load_kernel(
    kernel_file: str | os.PathLike[str] | None = None, *, threads: int | None = None, precision: str = "exact"
) -> Kernel:
    """The kernel for this machine: ``kernel_file``, the file that GLMCORE_KERNEL_FILE names, or a built one.

    Errors: KernelError("kernel-build", "kernel-file").
    """
    library = ensure_kernel(kernel_file or os.environ.get(KERNEL_FILE) or None)
    if not library.openmp:
        _announce("the CPU kernel was built without OpenMP and computes in one thread")
    return Kernel(library, threads=threads, precision=precision)


def kernel_or_torch(
    kernel_file: str | os.PathLike[str] | None = None, *, threads: int | None = None, precision: str = "exact"
) -> Kernel | None:
    """``load_kernel``, or None, announced, where none can be built; a file that was asked for must work."""
    try:
        return load_kernel(kernel_file, threads=threads, precision=precision)
    except KernelError as error:
        if error.code == "kernel-file":
            raise
        _announce(f"no CPU kernel, quantised layers run through torch, slowly: {error}")
        return None


def backend_name(kernel: Kernel | None) -> str:
    """What quantised layers run on, for statistics."""
    return "torch" if kernel is None else kernel.name


@functools.cache
def _announce(message: str) -> None:
    """Say it once per process."""
    log.warning(message)


def failure(status: int) -> Exception:
    """What a status of the library other than 0 means."""
    if status == NOT_FINITE:
        return GlmError("not-finite", "a layer was given NaN or infinite values", where="linear",
                        hint="try another dtype; float16 overflows where bfloat16 or float32 does not")  # fmt: skip
    if status == NO_MEMORY:
        return GlmError("memory-short", "no memory for a layer's activations", where="linear")
    return ValueError(f"the kernel refused its arguments (status {status})")
