"""Sends the chunks of a prompt through a split model: while one device has chunk i, the one before has chunk i+1.

Every chunk is an ordinary forward pass in a thread of its own. Where its hidden state changes device it leaves a stage,
and it enters the next one after the chunk before it has left that, so each device works on one chunk at a time and the
cache of a layer fills in order. At most as many chunks are under way as there are stages.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import torch
from torch import Tensor, nn

from glmcore.models.cache import KVCache
from glmcore.plan.overlap import overlaps


def prefill_chunks(model: nn.Module, chunks: Sequence[Tensor], cache: KVCache) -> Tensor:
    """Logits [B, 1, vocabulary] after the last of ``chunks`` [B, S], which go on top of the cache in their order."""
    if len(chunks) > 1 and overlapping(model):
        return overlapped(model, chunks, cache)
    for chunk in chunks:
        logits = model(chunk, cache=cache, last_only=True)
    return logits


def overlapping(model: nn.Module) -> bool:
    """Whether several chunks of a prompt are worth having under way at once."""
    return overlaps(getattr(model, "placement", {}).values())


def overlapped(model: nn.Module, chunks: Sequence[Tensor], cache: KVCache) -> Tensor:
    """``prefill_chunks`` with several chunks [B, S] under way: logits [B, 1, vocabulary].

    Nothing runs any more when this returns or raises.
    """
    if model.prefix is not None:
        model.prefix.before(cache)  # once, before the chunks get their views
    views = []
    for start in accumulate((chunk.shape[1] for chunk in chunks[:-1]), initial=cache.length):
        views.append(copy.copy(cache))  # the same keys and values, a length of its own
        views[-1].length = start
    turns = Turns(model.hops.stages)
    with ThreadPoolExecutor(model.hops.stages, "prefill") as pool:
        passing = [
            pool.submit(send, model, chunk, view, turns, number)
            for number, (chunk, view) in enumerate(zip(chunks, views, strict=True))
        ]
        try:
            logits = [each.result() for each in passing][-1]
        except BaseException:
            turns.stop(0)
            raise
    cache.advance(sum(chunk.shape[1] for chunk in chunks))
    return logits


def send(model: nn.Module, ids: Tensor, view: KVCache, turns: Turns, number: int) -> Tensor:
    """One chunk's forward pass, stage by stage: ids [B, S] → logits [B, 1, vocabulary].

    Errors: Abandoned where an earlier chunk has failed, and those of the model.
    """
    stage = 0

    def change() -> None:
        nonlocal stage
        turns.leave(number, stage)
        stage += 1
        turns.enter(number, stage)

    try:
        turns.enter(number, stage)
        with torch.inference_mode(), model.hops.watched(change):
            logits = model(ids, cache=view, last_only=True)
        turns.leave(number, stage)
    except BaseException:
        turns.stop(number)
        raise
    return logits


class Abandoned(Exception):
    """An earlier chunk has failed; its error is the one that counts."""


class Turns:
    """Which chunk each stage takes next. A chunk that fails stops those after it; those before it go on."""

    def __init__(self, stages: int) -> None:
        self.next = [0] * stages
        self.stopped = float("inf")
        self.moved = threading.Condition()

    def enter(self, number: int, stage: int) -> None:
        """Wait for this chunk's turn. Errors: Abandoned where a chunk before it has failed."""
        with self.moved:
            self.moved.wait_for(lambda: self.next[stage] == number or number >= self.stopped)
            if number >= self.stopped:
                raise Abandoned

    def leave(self, number: int, stage: int) -> None:
        with self.moved:
            self.next[stage] = number + 1
            self.moved.notify_all()

    def stop(self, number: int) -> None:
        with self.moved:
            self.stopped = min(self.stopped, number)
            self.moved.notify_all()
