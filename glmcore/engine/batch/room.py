"""How many tokens the caches of all answers may hold, by the bytes that the plan left for them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from glmcore.config import ModelConfig
from glmcore.plan import Plan
from glmcore.plan.costs import kv_bytes_per_token

# Of what is left beside weights and workspace: a cache that grows lies in memory twice for a moment.
SHARE = 0.75


@dataclass(frozen=True)
class Room:
    """``tokens``: of all rows together, on the device that has least room for them."""

    tokens: int = sys.maxsize

    def fits(self, rows: int, tokens: int) -> bool:
        """Whether there is room for so many rows of so many tokens."""
        return rows * tokens <= self.tokens


def room_of(plan: Plan, config: ModelConfig) -> Room:
    """What each device has left of its budget, of which every token takes a part in each of the device's layers.

    At least what the plan counted.
    """
    found = [
        int(SHARE * (share.budget_bytes - share.weights_bytes - share.workspace_bytes))
        // (kv_bytes_per_token(config, share.cache) * len(share.layers))
        for share in plan.devices
        if share.layers
    ]
    return Room(max(plan.context * plan.batch, min(found)))
