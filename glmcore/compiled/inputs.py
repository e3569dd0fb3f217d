"""What a call of the graphs takes, from each row's next tokens: where they go, where they stand and what they see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glmcore.compiled.caches import Caches
from glmcore.config import ModelConfig

# Slots that are looked at are counted in steps of so many, so that few sizes come up.
STEP = 64


@dataclass(frozen=True)
class Inputs:
    """Of S tokens in each of B rows, on the CPU; padding writes to the last slot and sees the first."""

    ids: Tensor  # [B, S] int64
    slots: Tensor  # [B, S] int64: where each token's keys and values go
    positions: Tensor  # [B, S] int64, of ChatGLM-6B [B, 2, S]
    visible: Tensor  # [B, S] int64: how many slots, from the first, a token sees
    last: Tensor  # [B] int64: the token whose logits are wanted
    extent: int  # slots that any token sees

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """What every stage is given."""
        return self.slots, self.positions, self.visible, self.last


def fill(config: ModelConfig, length: int, pieces: list[list[int]], caches: Caches) -> Inputs:
    """The inputs for graphs of ``length`` tokens; each row's piece goes on top of what it holds."""
    rows = len(pieces)
    ids = torch.zeros(rows, length, dtype=torch.int64)
    slots = torch.full((rows, length), caches.total)
    positions = torch.zeros((rows, 2, length) if config.position_2d else (rows, length), dtype=torch.int64)
    visible = torch.ones(rows, length, dtype=torch.int64)
    for row, piece in enumerate(pieces):
        if not piece:
            continue
        count, start = len(piece), len(caches.held[row])
        places = torch.arange(start, start + count)
        ids[row, :count] = torch.tensor(piece)
        slots[row, :count] = places
        positions[row, ..., :count] = caches.following(row, piece, places)
        visible[row, :count] = (places + 1).clamp_min(caches.context(row))
    last = torch.tensor([max(len(piece) - 1, 0) for piece in pieces])
    extent = min(-(-int(visible.max()) // STEP) * STEP, caches.total)
    return Inputs(ids, slots, positions, visible, last, extent)
