"""What a step costs by its rows, measured before a server begins, or else while nobody asks."""

from __future__ import annotations

import time

import torch

from glmcore.engine.batch.lookup import StepCosts
from glmcore.engine.native import NativeModel
from glmcore.engine.ways import NativeWay, Way
from glmcore.models.cache import KVCache

ROWS = (1, 2, 4, 8, 16)
ROUNDS = 3


def step_seconds(native: NativeModel, cache: KVCache, rows: int, context: int) -> float:
    """One step over a token of each of so many sequences, every one after ``context`` tokens."""
    ids = torch.arange(5, 5 + rows)
    places = torch.full((rows,), context)
    positions = torch.stack([places, torch.ones_like(places)]) if native.config.position_2d else places
    started = time.perf_counter()
    native.together(ids, torch.arange(rows), places, cache, positions[None]).argmax(-1)
    return time.perf_counter() - started


class StepTimes:
    """Steps of some numbers of rows, timed one by one; ``costs`` are the least of each once all are timed."""

    def __init__(self, native: NativeModel, dtype: torch.dtype) -> None:
        self.native = native
        self.cache = KVCache(native.config, max(ROWS), 1, dtype)
        self.least: dict[int, float] = {}
        self.left = [rows for _ in range(ROUNDS) for rows in ROWS]

    @torch.inference_mode()
    def time_one(self) -> StepCosts | None:
        rows = self.left.pop()
        self.least[rows] = min(step_seconds(self.native, self.cache, rows, 0), self.least.get(rows, float("inf")))
        return None if self.left else StepCosts(self.least)


def step_times(way: Way) -> StepTimes | None:
    """None where several tokens in a step would not save reading the weights."""
    if not isinstance(way, NativeWay) or not way.native.quantised:
        return None
    return StepTimes(way.native, way.rows.cache.keys[0].dtype)
