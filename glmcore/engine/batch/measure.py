"""What a step costs by its rows, measured when a model has been loaded."""

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


@torch.inference_mode()
def measure_steps(way: Way) -> StepCosts | None:
    """The least of some rounds; None where several tokens in a step would not save reading the weights."""
    if not isinstance(way, NativeWay) or not way.native.quantised:
        return None
    cache = KVCache(way.config, max(ROWS), 1, way.rows.cache.keys[0].dtype)
    turns = [{rows: step_seconds(way.native, cache, rows, 0) for rows in ROWS} for _ in range(ROUNDS)]
    return StepCosts({rows: min(turn[rows] for turn in turns) for rows in ROWS})
