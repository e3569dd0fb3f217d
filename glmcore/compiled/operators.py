"""The products that a graph leaves to glmcore: packed matrices, and 16 bits beside activations in float32.

They are operators of torch's registry, so that a graph keeps each as one call. A graph compiled for the CPU makes it
in C (``products``), one for a card through the registry, where what ``kernels.cuda.choice`` finds best computes, Triton
first. On the CPU that is the verified kernel, or torch where none can be built: whoever opens an engine says so
(``computing``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmcore.kernels.cuda import choice
from glmcore.packing import dequantize
from glmcore.quant.convert import swap
from glmcore.quant.halves import VALUES, HalfLinear
from glmcore.quant.linear import FALLBACK_ROWS, QuantLinear, on_card

if TYPE_CHECKING:
    from glmcore.kernels.load import Kernel

# Rows of activations of which the kernel keeps what it keeps of an answer's (PRECISE_ROWS in cpu/glm.h); the native
# step keeps the same of prompts that are no longer.
SHORT_PROMPT = 16


@dataclass
class Computing:
    """What multiplies on the CPU of this process: ``answers`` for the rows of answers, ``prompts`` for those of prompts
    of more than ``SHORT_PROMPT`` tokens, of which ``fast`` keeps less; None: torch.

    ``reading``: such a prompt is being read, by whoever calls the graphs.
    """

    answers: Kernel | None = None
    prompts: Kernel | None = None
    reading: bool = False

    def use(self, kernel: Kernel | None) -> None:
        """``kernel`` for both, as its precision says."""
        self.answers = self.prompts = kernel
        if kernel is not None and kernel.precision == "fast":
            self.prompts = type(kernel)(kernel.library, threads=kernel.threads, precision="light")


computing = Computing()


@torch.library.custom_op("glmcore::packed_linear", mutates_args=())
def packed_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int, head: bool) -> Tensor:
    """[..., K] times packed int8 [N, K·bits/8]ᵀ, plus bias, in the type of ``x``; scale and bias float32 [N].

    The head's rows are always an answer's. The rows of several answers keep what each would keep alone.
    """
    if on_card(x):
        return choice.backend_for(x.device).linear(x, weight, scale, bias, bits)
    if computing.answers is None or computing.prompts is None:
        return by_torch(x, weight, scale, bias, bits)
    if computing.reading and not head:
        return computing.prompts.linear(x, weight, scale, bias, bits=bits)
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) <= SHORT_PROMPT:
        return computing.answers.linear(x, weight, scale, bias, bits=bits)
    parts = [computing.answers.linear(part, weight, scale, bias, bits=bits) for part in rows.split(SHORT_PROMPT)]
    return torch.cat(parts).view(*x.shape[:-1], len(weight))


@packed_linear.register_fake
def _(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int, head: bool) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("glmcore::half_linear", mutates_args=())
def half_linear(x: Tensor, weight: Tensor, brain: bool) -> Tensor:
    """[..., K] float32 times [N, K]ᵀ of 16 bits (``brain``: bfloat16), in float32."""
    if computing.answers is not None and computing.answers.takes16(x, weight):
        return computing.answers.linear16(x, weight)
    return widened(x, weight)


@half_linear.register_fake
def _(x: Tensor, weight: Tensor, brain: bool) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def widened(x: Tensor, weight: Tensor) -> Tensor:
    """``half_linear`` by torch, [..., K] → [..., N], some rows of the matrix at a time."""
    y = x.new_empty(*x.shape[:-1], len(weight))
    count = max(1, VALUES // x.shape[-1])
    for start in range(0, len(weight), count):
        y[..., start : start + count] = F.linear(x, weight[start : start + count].to(x.dtype))
    return y


def by_torch(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """``packed_linear`` by plain torch operators: [..., K] → [..., N]."""
    parts = zip(weight.split(FALLBACK_ROWS), scale.split(FALLBACK_ROWS), strict=True)
    y = torch.cat([F.linear(x, dequantize(packed, factor, bits, x.dtype)) for packed, factor in parts], dim=-1)
    return y if bias is None else y + bias.to(x.dtype)


class PackedLinear(nn.Module):
    """A ``QuantLinear`` as one operator of the graph; its weight, scale and bias."""

    def __init__(self, source: QuantLinear, head: bool) -> None:
        super().__init__()
        self.bits, self.head = source.bits, head
        for name in ("weight", "weight_scale", "bias"):
            self.register_buffer(name, getattr(source, name))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out] in the type of ``x``."""
        return torch.ops.glmcore.packed_linear(x, self.weight, self.weight_scale, self.bias, self.bits, self.head)


class WideningLinear(nn.Module):
    """A ``HalfLinear`` as one operator of the graph."""

    def __init__(self, source: HalfLinear) -> None:
        super().__init__()
        self.weight, self.bias = source.weight, source.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out] in the type of ``x``."""
        y = torch.ops.glmcore.half_linear(x, self.weight, self.weight.dtype == torch.bfloat16)
        return y if self.bias is None else y + self.bias


def with_operators(model: nn.Module) -> nn.Module:
    """``model`` with these operators in place of modules that choose what computes when they are called."""
    head = model.lm_head
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantLinear):
            swap(model, name, PackedLinear(module, module is head))
        elif isinstance(module, HalfLinear):
            swap(model, name, WideningLinear(module))
    return model
