"""An engine's calls into a dump. No hook is needed: ids, positions, caches and logits are its inputs and outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from glmcore.compiled.caches import Caches
from glmcore.compiled.opened import Call
from glmcore.golden.dump import Recorder

KINDS = {"keys": "key", "values": "value"}


class Dumping:
    """What ``Opened.watch`` calls: writes each call to ``recorder``."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __call__(self, call: Call, caches: Caches) -> None:
        """Errors: OSError."""
        found = {"ids": call.ids, "positions": call.positions, "lengths": torch.tensor(call.lengths)}
        slots = torch.tensor(call.starts)[:, None] + torch.arange(call.ids.shape[1])
        for name, tensor in caches.tensors.items():
            _, layer, kind = name.split(".")
            found[f"layer.{layer}.{KINDS[kind]}"] = fresh(tensor, slots.clamp(max=caches.total))
        for layer, states in enumerate(call.states):
            found[f"layer.{layer}.out"] = states
        self.recorder(call.role, found | {"logits": call.logits})


def fresh(cache: Tensor, slots: Tensor) -> Tensor:
    """What lies in the ``slots`` [B, S] of a cache [B, heads, total, D]: [B, heads, S, D]."""
    index = slots.to(cache.device)[:, None, :, None].expand(-1, cache.shape[1], -1, cache.shape[3])
    return cache.gather(2, index).contiguous()
