"""Random weights in a model's shapes, by their names: what can be measured and compiled without a checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from glmcore.checkpoint.memory import huge_empty

# Random weights of this standard deviation keep the hidden states of a deep model finite in float16.
DEVIATION = 0.02
# Values that are really drawn; larger tensors repeat them, which costs no measured work anything.
DRAWN = 1 << 20


class Drawer:
    """Random tensors by their names: norms near 1, scales that give the deviation, weights around 0."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.floats = torch.randn(DRAWN, generator=generator) * DEVIATION
        self.integers = torch.randint(-127, 128, (DRAWN,), dtype=torch.int8, generator=generator)

    def __call__(self, name: str, like: Tensor, dtype: torch.dtype, bits: int, device: torch.device) -> Tensor:
        """A tensor of the shape of ``like`` for the parameter ``name``, of ``dtype`` or packed in ``bits``."""
        if name.endswith("weight_scale"):
            # Uniform integers up to 127 (7 for int4) deviate by 73 (4.6).
            return torch.full(like.shape, DEVIATION / (73 if bits == 8 else 4.6), dtype=dtype, device=device)
        if "norm" in name:
            return torch.full(like.shape, float(name.endswith("weight")), dtype=dtype, device=device)
        source = self.integers if like.dtype == torch.int8 else self.floats.to(dtype)
        on_cpu = device.type == "cpu"
        filled = (
            huge_empty(like.shape, source.dtype)
            if on_cpu
            else torch.empty_like(like, dtype=source.dtype, device=device)
        )
        source = source.to(device)
        for part in filled.view(-1).split(DRAWN):
            part.copy_(source[: len(part)])
        return filled
