"""Models over several devices: transformers reads them to where a device map says, ``place`` runs them there.

accelerate's own hooks would copy the weights of layers on the CPU to a card for every token, and keep packed ones,
which are buffers, on the card for good. Here every piece computes where it lies, as by any other plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from glmcore.config import ModelConfig
from glmcore.layout import pieces
from glmcore.place.multi_devices import place_model, placement_from_map

PLANNED = ("cpu", "cuda")  # the types of devices that a plan can name


def run_where_it_lies(model: Any) -> None:
    """Let a transformers model that accelerate has spread over devices run by ``place``.

    What no plan says stays accelerate's: weights on a disk, a layer that is split within, other kinds of devices.
    """
    placement = placement_of(model.native.config, getattr(model, "hf_device_map", {}))
    if placement is None:
        return
    from accelerate.hooks import remove_hook_from_submodules

    remove_hook_from_submodules(model)
    place_model(model.native, placement)


def placement_of(config: ModelConfig, device_map: Mapping[str, Any]) -> dict[str, str] | None:
    """Piece → device of a device map over several devices; None where there is one, or where no plan could say it."""
    within = tuple(f"{piece.module}." for piece in pieces(config))
    if len(set(device_map.values())) < 2 or any(name.startswith(within) for name in device_map):
        return None
    if "disk" in device_map.values():
        return None
    placement = placement_from_map(config, device_map)
    return placement if all(torch.device(name).type in PLANNED for name in placement.values()) else None
