"""LoRA: a product of two narrow matrices beside a linear layer, whose own weights, packed or not, stay as they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRank(nn.Module):
    """What a LoRA adds to a layer's output: ``scaling · up · down · x``; down is [rank, in], up [out, rank]."""

    down: Tensor
    up: Tensor

    def __init__(self, down: Tensor, up: Tensor, scaling: float) -> None:
        super().__init__()
        self.scaling = scaling
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the output [..., out] for an input [..., in], in the input's type."""
        return F.linear(F.linear(x, self.down.to(x)), self.up.to(x)) * self.scaling


def add_low_rank(linear: nn.Module, down: Tensor, up: Tensor, scaling: float, dtype: torch.dtype) -> None:
    """Let ``linear`` (of any kind) return its own output and the LoRA's.

    down [rank, in] and up [out, rank] are kept in ``dtype``.
    """
    device = linear.weight.device
    linear.low_rank = LowRank(down.to(device, dtype), up.to(device, dtype), scaling)
    # A hook rather than a wrapper: the layer keeps its name, its kind and its place.
    linear.register_forward_hook(lambda module, inputs, output: output + module.low_rank(inputs[0]))
