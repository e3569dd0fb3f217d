"""Moves hidden states between devices: only where the device changes, and what all layers share only once for each.

Devices are known by the plan's names, so that logical devices ("cpu:0", "cpu:1") hop like real ones and plans of many
devices can be tried on a machine with none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Hops:
    """The hooks of one placed model. ``count`` is how often a hidden state has changed device since it was made."""

    def __init__(self, model: nn.Module, placement: Mapping[str, str]) -> None:
        self.count = 0
        self._shared: dict[tuple[int, str], Tensor] = {}
        self._handles = []
        before: str | None = None
        for name, module in pieces_of(model):
            here = placement[name]
            if before is not None:
                self._hook(module, here, changes=here != before)
            before = here
        self._handles.append(model.register_forward_pre_hook(self._forget))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, module: nn.Module, name: str, *, changes: bool) -> None:
        device = torch.device(name)

        def move(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden, *shared = arguments
            if changes:
                self.count += 1
                hidden = hidden.to(device, non_blocking=True)
            return (hidden, *(self._on(device, name, value) for value in shared))

        self._handles.append(module.register_forward_pre_hook(move))

    def _on(self, device: torch.device, name: str, value: Any) -> Any:
        """Rotation and mask, moved to each device once in a forward pass; the cache knows its devices itself."""
        if isinstance(value, tuple):
            return tuple(self._on(device, name, part) for part in value)
        if not isinstance(value, Tensor):
            return value
        key = (id(value), name)
        if key not in self._shared:
            self._shared[key] = value.to(device, non_blocking=True)
        return self._shared[key]

    def _forget(self, *_: Any) -> None:
        self._shared.clear()


def pieces_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """A plan's pieces and their modules, in the order of the forward pass."""
    found = [("embedding", model.embedding), *((f"layer.{i}", layer) for i, layer in enumerate(model.layers))]
    if model.final_norm is not None:
        found.append(("final_norm", model.final_norm))
    return [*found, ("lm_head", model.lm_head)]


def attach_hops(model: nn.Module, placement: Mapping[str, str]) -> nn.Module:
    """Let ``model``, whose pieces lie where ``placement`` says, run over its devices; replaces earlier hops."""
    detach_hops(model)
    model.hops = Hops(model, placement)
    model.placement = dict(placement)
    return model


def detach_hops(model: nn.Module) -> None:
    if getattr(model, "hops", None) is not None:
        model.hops.remove()
        model.hops = None
