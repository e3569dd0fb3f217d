"""What decoding several answers in one step costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch

from glmcore.bench.report import Batch
from glmcore.bench.workloads import prompt_ids
from glmcore.engine.native import NativeModel
from glmcore.engine.runner import Runner
from glmcore.engine.ways import NativeWay
from glmcore.errors import GlmError
from glmcore.models.cache import KVCache

ROUNDS = 9


def measure_batches(runner: Runner, counts: Sequence[int], context: int) -> tuple[Batch, ...]:
    """Steps of each number of rows in turn, every row after ``context`` tokens; medians, ratios within a turn.

    GlmError("usage") where the model does not run through the CPU's kernel as a whole.
    """
    way = runner.way
    if not isinstance(way, NativeWay) or not way.native.takes(max(counts)):
        raise GlmError("usage", "--batch measures quantised models in the CPU's kernel, and this one runs otherwise")
    cache = KVCache(runner.config, max(counts), context + 1, runner.cache.keys[0].dtype)
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()  # as if tokens had gone through: the speed does not depend on the values
    turns = [{count: step_seconds(way.native, cache, count, context) for count in {1, *counts}} for _ in range(ROUNDS)]
    return tuple(
        Batch(
            rows=count,
            decode_tokens_per_s=count / statistics.median(turn[count] for turn in turns),
            step_cost=statistics.median(turn[count] / turn[1] for turn in turns),
        )
        for count in counts
    )


def step_seconds(native: NativeModel, cache: KVCache, rows: int, context: int) -> float:
    """One step over a token of each of so many sequences."""
    ids = torch.tensor(prompt_ids(native.config, rows + 2)[:rows])  # ChatGLM-6B's end with marks of their own
    places = torch.full((rows,), context)
    positions = torch.stack([places, torch.ones_like(places)]) if native.config.position_2d else places
    started = time.perf_counter()
    native.together(ids, torch.arange(rows), places, cache, positions[None]).argmax(-1)
    return time.perf_counter() - started
