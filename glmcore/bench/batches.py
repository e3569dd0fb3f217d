"""What decoding several answers in one step costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from glmcore.bench.report import Batch
from glmcore.engine.batch.measure import seconds
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

    def step(count: int) -> float:
        return seconds(lambda: way.native.trial(cache, count, context))

    turns = [{count: step(count) for count in {1, *counts}} for _ in range(ROUNDS)]
    return tuple(
        Batch(
            rows=count,
            decode_tokens_per_s=count / statistics.median(turn[count] for turn in turns),
            step_cost=statistics.median(turn[count] / turn[1] for turn in turns),
        )
        for count in counts
    )
