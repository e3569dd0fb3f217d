"""Moves hidden states between devices: only where the device changes, and what all layers share only once for each.

Devices are known by the plan's names, so that logical devices ("cpu:0", "cpu:1") hop like real ones and plans of many
devices can be tried on a machine with none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glmcore import layout


class Hops:
    """The hooks of one placed model. ``count`` is how often a hidden state has changed device since it was made.

    Several forward passes may be under way at once, each in a thread of its own. ``stages`` are the runs of pieces
    between two changes of device.
    """

    def __init__(self, model: nn.Module, placement: Mapping[str, str]) -> None:
        self.count, self.stages = 0, 1
        self._counting = threading.Lock()
        self._trip = Trip()
        self._handles = []
        if len(set(placement.values())) == 1:
            return  # one device holds all: nothing is put in its way
        (first, _), *others = pieces_of(model)
        before = placement[first]
        self._begin(model, before)
        for name, module in others:
            here = placement[name]
            self._hook(module, here, changes=here != before)
            self.stages += here != before
            before = here

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def watched(self, change: Callable[[], None]) -> Iterator[None]:
        """Call ``change`` between two stages of what this thread runs, once the first one's work is queued."""
        self._trip.change = change
        try:
            yield
        finally:
            self._trip.change = None

    def _begin(self, model: nn.Module, name: str) -> None:
        """A forward pass begins where the embedding is, wherever what it is given lies."""
        device = torch.device(name)

        def move(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            self._trip.moved.clear()
            moved = {key: self._on(device, name, None, value) for key, value in named.items()}
            return self._on(device, name, None, given), moved

        self._handles.append(model.register_forward_pre_hook(move, with_kwargs=True))

    def _hook(self, module: nn.Module, name: str, *, changes: bool) -> None:
        device, dtype = torch.device(name), input_dtype(module)

        def move(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden, *shared = arguments
            if changes:
                hidden = self._cross(hidden, device)
            return (hidden.to(dtype or hidden.dtype), *(self._on(device, name, dtype, value) for value in shared))

        self._handles.append(module.register_forward_pre_hook(move))

    def _cross(self, hidden: Tensor, device: torch.device) -> Tensor:
        with self._counting:
            self.count += 1
        arrived = self._trip.staging.send(hidden, device)
        if self._trip.change is not None:
            self._trip.change()
        return arrived()

    def _on(self, device: torch.device, name: str, dtype: torch.dtype | None, value: Any) -> Any:
        """Rotation and mask, moved to each device once in a forward pass; the cache knows its devices itself."""
        if isinstance(value, tuple):
            return tuple(self._on(device, name, dtype, part) for part in value)
        if not isinstance(value, Tensor):
            return value
        kept = dtype if value.is_floating_point() else None
        key = (id(value), name, kept)
        moved = self._trip.moved
        if key not in moved:
            moved[key] = value.to(device, kept)
        return moved[key]


class Trip(threading.local):
    """What the forward pass of one thread has with it."""

    def __init__(self) -> None:
        self.moved: dict[tuple[int, str, torch.dtype | None], Tensor] = {}
        self.staging = Staging()
        self.change: Callable[[], None] | None = None


class Staging:
    """Moves tensors between the CPU and cards through one pinned buffer, which a card copies from and to by itself."""

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self._read: torch.cuda.Event | None = None  # when the card is done with the buffer

    def send(self, tensor: Tensor, device: torch.device) -> Callable[[], Tensor]:
        """Begin to move ``tensor``, of any shape; the function that is returned waits for it and gives it."""
        if tensor.device.type == device.type == "cpu":
            return lambda: tensor
        if device.type == "cuda" and tensor.device.type == "cpu":
            moved = self._room(tensor).copy_(tensor).to(device, non_blocking=True)
            self._read = torch.cuda.current_stream(device).record_event()
            return lambda: moved
        if device.type == "cpu" and tensor.device.type == "cuda":
            staged = self._room(tensor).copy_(tensor, non_blocking=True)
            self._read = torch.cuda.current_stream(tensor.device).record_event()
            return lambda: self._taken(staged)
        moved = tensor.to(device, non_blocking=True)
        return lambda: moved

    def _taken(self, staged: Tensor) -> Tensor:
        """What a card has copied into the buffer, which the next hop uses again. What the card was given to do after
        the copy is not waited for."""
        self._done()
        return staged.clone()

    def _done(self) -> None:
        if self._read is not None:
            self._read.synchronize()
            self._read = None

    def _room(self, tensor: Tensor) -> Tensor:
        """The buffer in the shape and type of ``tensor``, once the card is done with what it held."""
        self._done()
        if self._buffer is None or self._buffer.nbytes < tensor.nbytes:
            self._buffer = torch.empty(tensor.nbytes, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        return self._buffer[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)


def input_dtype(module: nn.Module) -> torch.dtype | None:
    """The type that a piece computes in: that of its norms, or of its plain weight; None where it takes any."""
    norms = [parameter.dtype for name, parameter in module.named_parameters() if "norm" in name]
    if norms:
        return norms[0]
    plain = type(module) in (nn.Linear, nn.LayerNorm) or hasattr(module, "eps")
    return module.weight.dtype if plain else None


def pieces_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """A plan's pieces and their modules, in the order of the forward pass."""
    return [(piece.name, model.get_submodule(piece.module)) for piece in layout.pieces(model.config)]


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
