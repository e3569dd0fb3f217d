"""How the layers of a model are gone through, the same for every generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from glmcore.models.cache import KVCache
from glmcore.models.rope import Rotation

# How a layer is called with its arguments: torch's checkpoint function, which computes it again in the backward pass.
Call = Callable[..., Any]


def run_layers(
    layers: nn.ModuleList,
    hidden: Tensor,
    rotation: Rotation,
    mask: Tensor | None,
    cache: KVCache | None,
    states: list[Tensor] | None = None,
    call: Call | None = None,
) -> Tensor:
    """[B, S, hidden size] through all layers. ``states`` is given what each layer takes."""
    for layer in layers:
        if states is not None:
            states.append(hidden)
        arguments = (hidden, rotation, mask, cache)
        hidden = layer(*arguments) if call is None else call(layer, *arguments)
    return hidden
