"""What a step costs by its rows, measured before a server begins, or else while nobody asks."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from glmcore.engine.batch.worth import StepCosts
from glmcore.engine.ways import Timed, Way

ROWS = (1, 2, 4, 8, 16)
ROUNDS = 3


def seconds(step: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


class StepTimes:
    """Steps of some numbers of rows, timed one by one; ``costs`` are the least of each once all are timed."""

    def __init__(self, way: Timed) -> None:
        self.way = way
        self.least: dict[int, float] = {}
        self.left = [rows for _ in range(ROUNDS) for rows in ROWS]

    @torch.inference_mode()
    def time_one(self) -> StepCosts | None:
        rows = self.left.pop()
        self.least[rows] = min(seconds(lambda: self.way.trial(rows)), self.least.get(rows, float("inf")))
        return None if self.left else StepCosts(self.least)


def step_times(way: Way) -> StepTimes | None:
    """None where several tokens in a step would not save reading the weights."""
    return StepTimes(way) if way.shares and isinstance(way, Timed) else None
