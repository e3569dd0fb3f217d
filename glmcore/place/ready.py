"""The last step of every placing: weights that lie where they belong become a model that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from glmcore.place.hops import attach_hops
from glmcore.quant.convert import attach_kernel
from glmcore.quant.operators import use_operators

if TYPE_CHECKING:
    from glmcore.kernels.load import Kernel


def ready(
    model: nn.Module, placement: Mapping[str, str], kernel: Kernel | None = None, *, operators: bool = False
) -> nn.Module:
    """``model`` for inference over the devices of ``placement``, its linears on the CPU by ``kernel``.

    operators: without a kernel, let torch's own for packed weights compute where they are right and faster.
    """
    attach_kernel(model.eval().requires_grad_(False), kernel)
    if operators and kernel is None:
        use_operators(model)
    return attach_hops(model, placement)
