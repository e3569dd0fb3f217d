"""Torch's own operators for packed weights on the CPU, for machines where no kernel can be built.

They round inputs and results to bfloat16, so they belong to the precision ``fast``: one product of random numbers errs
by 0.3 %. The int4 operator wants its own order of the bytes; weights are rearranged in their place, and put back for
who saves them or moves them elsewhere.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from glmcore.packing import pack_int4, unpack_int4
from glmcore.quant.linear import QuantLinear
from glmcore.quant.schemes import quantize_rows

TOLERANCE = 0.01  # of a product, relative to its norm
# The int4 operator packs this many rows together, on every instruction set.
ROWS = 64
GROUPS = (256, 128, 64, 32)
CHUNK_ROWS = 1024
CHUNK_COLUMNS = 256


class Int8Operator:
    """Takes the weights as they are."""

    name = "torch's int8 operator"

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """[M, K] bfloat16 times unscaled [N, K]ᵀ."""
        return torch.ops.aten._weight_int8pack_mm(x, weight, ones(weight.shape[0]))

    def arrange(self, weight: Tensor) -> Tensor:
        """[N, K] int8 as it is."""
        return weight

    def restore(self, weight: Tensor) -> Tensor:
        """[N, K] int8 as it is."""
        return weight


class Int4Operator:
    """Takes weights in an order that depends on the instruction set; ``group`` columns share a scale (here: 1)."""

    name = "torch's int4 operator"

    def __init__(self, group: int) -> None:
        self.group = group

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """[M, K] bfloat16 times unscaled [N, K]ᵀ."""
        scales = ones_and_zeros(x.shape[1] // self.group, weight.shape[0])
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, weight.view(torch.uint8), self.group, scales)

    def arrange(self, weight: Tensor) -> Tensor:
        """Our order → the operator's, in place; [N, K/2] int8 bytes both."""
        for part in weight.split(CHUNK_ROWS):
            values = unpack_int4(part).to(torch.int32) + 8
            part.copy_(torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1).view(torch.int8).view_as(part))
        return weight

    def restore(self, weight: Tensor) -> Tensor:
        """The operator's order → ours, [N, K/2] int8 in new memory.

        What it multiplies is read off unit vectors, exactly.
        """
        rows, columns = weight.shape[0], 2 * weight.shape[1]
        found = torch.empty_like(weight)
        for first in range(0, columns, CHUNK_COLUMNS):
            last = min(first + CHUNK_COLUMNS, columns)
            units = torch.zeros(last - first, columns, dtype=torch.bfloat16)
            units[torch.arange(last - first), torch.arange(first, last)] = 1
            values = self.product(units, weight).to(torch.int8).t()
            found[:, first // 2 : last // 2] = pack_int4(values.reshape(rows, last - first))
        return found


Operator = Int8Operator | Int4Operator


def use_operators(model: nn.Module) -> nn.Module:
    """Let the quantised linears on the CPU that torch's operators can take run through them, where that is faster."""
    table = getattr(model.embedding, "weight", None)  # a stage may have no embedding
    for module in model.modules():
        if not isinstance(module, QuantLinear) or module.weight.device.type != "cpu":
            continue
        operator = operator_for(module.bits, *module.weight.shape)
        if isinstance(operator, Int4Operator) and table is not None and module.weight.data_ptr() == table.data_ptr():
            continue  # a tied embedding looks its rows up in our order
        if operator is not None and passes(module.bits):
            module.weight, module.operator = operator.arrange(module.weight), operator
    return model


def operator_for(bits: int, rows: int, columns: int) -> Operator | None:
    """The operator for a weight of this shape as stored, None where it can't take it."""
    if bits == 8:
        return Int8Operator()
    group = next((group for group in GROUPS if 2 * columns % group == 0), None)
    return Int4Operator(group) if group and rows % ROWS == 0 else None


@functools.cache
def passes(bits: int) -> bool:
    """Whether the operator exists in this torch, is right within ``TOLERANCE`` and beats plain torch."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = 1024, 1024
    packed, scale = quantize_rows(torch.randn(rows, columns, generator=generator), bits)
    plain = QuantLinear(columns, rows, bits, bias=False)
    plain.weight, plain.weight_scale = packed, scale
    quick = QuantLinear(columns, rows, bits, bias=False)
    quick.weight_scale = scale
    try:
        quick.operator = operator_for(bits, *packed.shape)
        quick.weight = quick.operator.arrange(packed.clone())
        for count in (1, 5):
            x = torch.randn(count, columns, generator=generator)
            wanted = plain.torch_forward(x)
            if not (quick(x) - wanted).norm() <= TOLERANCE * wanted.norm():
                return False
        return bool(seconds(lambda: quick(x)) < seconds(lambda: plain.torch_forward(x)))
    except (AttributeError, RuntimeError):  # another torch: no such operator, or with other arguments
        return False


def seconds(action: Callable[[], object], rounds: int = 3) -> float:
    """The least of a few."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return min(found)


@functools.lru_cache(maxsize=16)
def ones(rows: int) -> Tensor:
    """[rows] bfloat16."""
    return torch.ones(rows, dtype=torch.bfloat16)


@functools.lru_cache(maxsize=16)
def ones_and_zeros(groups: int, rows: int) -> Tensor:
    """Scales 1 and zero points 0, [groups, rows, 2] bfloat16 as the int4 operator wants them.

    The row's own scale is multiplied in float32 instead.
    """
    return torch.stack([torch.ones(groups, rows), torch.zeros(groups, rows)], dim=-1).to(torch.bfloat16)
