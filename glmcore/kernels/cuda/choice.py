"""Which code multiplies quantised layers on a card: the first that gives the reference's numbers there."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glmcore.errors import GlmError
from glmcore.packing import dequantize

# x, packed weight, scale, bias or None, bits → the product in the type of x.
Linear = Callable[[Tensor, Tensor, Tensor, "Tensor | None", int], Tensor]

WANTED = "GLMCORE_CUDA_BACKEND"  # the name of the one to use, against the self-test's choice
MODULES = {"triton": "glmcore.kernels.cuda.fused", "cpm_kernels": "glmcore.kernels.cuda.cpm"}
NAMES = (*MODULES, "torch")
# (tokens, rows, columns): decode, a small batch and prefill, none of them whole tiles.
SHAPES = ((1, 72, 320), (5, 40, 192), (300, 24, 128))
# Float16 sums of these shapes differ from the exact ones by this share of their largest value at most.
TOLERANCE = 5e-3

log = logging.getLogger("glmcore")


@dataclass(frozen=True)
class Backend:
    """A named way to multiply."""

    name: str
    linear: Linear


def torch_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """Plain torch operators, which every card has: x [..., K], packed [N, K·bits/8], scale and bias [N] → [..., N]."""
    return F.linear(x, dequantize(weight, scale, bits, x.dtype), None if bias is None else bias.to(x.dtype))


TORCH = Backend("torch", torch_linear)


def backend_for(device: torch.device) -> Backend:
    """The backend of a card, tested there once. Errors: GlmError("usage") where the one that is wanted cannot run."""
    return _chosen(device.index or 0, os.environ.get(WANTED))


@functools.cache
def _chosen(index: int, wanted: str | None) -> Backend:
    if wanted is not None and wanted not in NAMES:
        raise GlmError("usage", f"{wanted!r} is no backend", where=WANTED, hint=f"one of {', '.join(NAMES)}")
    chosen = choose([wanted] if wanted else NAMES, open_backend, torch.device("cuda", index))
    if chosen is None:
        raise GlmError("usage", f"{wanted} does not pass its self-test on cuda:{index}", where=WANTED)
    return chosen


def open_backend(name: str) -> Backend:
    """Import what a name stands for; that may raise whatever its packages raise."""
    return TORCH if name == "torch" else Backend(name, importlib.import_module(MODULES[name]).linear)


def choose(names: Sequence[str], opening: Callable[[str], Backend], device: torch.device) -> Backend | None:
    """The first that opens and passes; why another did not is logged."""
    for name in names:
        try:
            candidate = opening(name)
            error = largest_error(candidate.linear, device)
        except Exception as failure:  # compilers and drivers fail in types of their own
            log.info("no %s on %s: %s: %s", name, device, type(failure).__name__, failure)
            continue
        if error <= TOLERANCE:
            return candidate
        log.warning("%s gives wrong numbers on %s (error %.2g), it is not used", name, device, error)
    return None


def largest_error(linear: Linear, device: torch.device) -> float:
    """The worst error over the shapes and both widths, as a share of the largest value."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for tokens, rows, columns in SHAPES:
        x = torch.randn(tokens, columns, generator=generator).half()
        scale, bias = torch.rand(rows, generator=generator).half() / 16, torch.randn(rows, generator=generator).half()
        for bits in (4, 8):
            size = (rows, columns * bits // 8)
            weight = torch.randint(-128, 128, size, dtype=torch.int8, generator=generator)
            exact = x.double() @ dequantize(weight, scale, bits, torch.float64).T + bias.double()
            got = linear(*(tensor.to(device) for tensor in (x, weight, scale, bias)), bits)
            error = (got.double().cpu() - exact).abs().max() / exact.abs().max()
            worst = max(worst, float(error) if torch.isfinite(error) else float("inf"))
    return worst
