"""A model in stages as a ``Way``: the rows' bookkeeping is here, their memory and all computing at the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from glmcore.config import ModelConfig
from glmcore.engine.runner import CACHE_BLOCK
from glmcore.engine.stages.cache import StagedCache
from glmcore.engine.stages.calls import Work
from glmcore.engine.stages.pipeline import Pipeline, Trip
from glmcore.engine.sweeps import Course
from glmcore.engine.ways.rows import Rows
from glmcore.engine.ways.way import Habits, Reading, Timed

# Chunks of a prompt under way for each stage, where nobody waits: one that it has and one that comes next.
AHEAD = 2


class StagedWay(Timed):
    """One step is one trip through all stages; of a prompt several chunks are under way at once."""

    def __init__(self, pipeline: Pipeline, config: ModelConfig) -> None:
        cache = StagedCache(pipeline, min(CACHE_BLOCK, config.max_length))
        super().__init__(Rows(config, cache), habits_of(pipeline))
        self.pipeline = pipeline
        self.chunk = max(each.habits.piece for each in pipeline.facts)

    def put_prefix(self) -> None:
        """Stages take no P-Tuning."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def read(self, row: int, ids: Tensor, length: int, states: list[Tensor] | None = None) -> Tensor:
        """Logits [V] after ``ids`` [1, S], the next of a row's prompt, which has ``length`` tokens in all."""
        start, trips = len(self.rows.held[row]), []
        self.pipeline.forget_dropped()
        size = self.chunk if self.config.traits.causal else length
        for first in range(0, ids.shape[1], size):
            part = ids[0, first : first + size]
            wanted = int(start + first + len(part) == length)
            trips.append(self.pipeline.send(self.reading(row, part, start + first, length, wanted)))
        # Of a chunk that fails the error counts, and not what came of those behind it.
        logits = [trip.result() for trip in trips][-1]
        return tensor_of(logits)[0] if len(logits) else torch.empty(0)

    def reading(self, row: int, ids: Tensor, start: int, length: int, wanted: int) -> Work:
        """The work for ``ids`` [S] of a prompt, which stand behind the first ``start`` tokens of their row."""
        places, own = torch.arange(start, start + len(ids)), self.rows.positions[row]
        return Work(
            ids.numpy(), np.full(len(ids), row), places.numpy(),
            places[None].numpy() if own is None else own.prompt()["position_ids"].numpy(),
            prompt=length, context=0 if own is None else own.context[0], wanted=wanted,
        )  # fmt: skip

    def both_ways(self, row: int, prompt: Sequence[int]) -> Reading:
        if all(each.interruptible for each in self.pipeline.facts):
            return BothWays(self, row, prompt)
        return super().both_ways(row, prompt)

    def step(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits [all tokens, V] of one trip."""
        ids, rows, places, positions = (each.numpy() for each in self.rows.next_of_all(tokens))
        return tensor_of(self.pipeline.run(Work(ids, rows, places, positions, wanted=len(ids))))

    def trial(self, rows: int) -> None:
        places = np.zeros(rows, np.int64)
        positions = np.stack([places, places + 1]) if self.config.position_2d else places
        ids = np.arange(5, 5 + rows)
        self.pipeline.run(Work(ids, np.arange(rows), places, positions[None], wanted=rows, trial=True))


def tensor_of(array: np.ndarray) -> Tensor:
    """Of the array's shape, on its memory where that may be written to."""
    return torch.from_numpy(np.require(array, requirements="W"))


def habits_of(pipeline: Pipeline) -> Habits:
    """Those that suit every stage."""
    own = [each.habits for each in pipeline.facts]
    chunk = max(each.piece for each in own)
    return Habits(
        short=min(each.short for each in own), grid=max(each.grid for each in own),
        piece=chunk * AHEAD * len(own) if len(own) > 1 else chunk,
        together=min(each.together for each in own), drafts=all(each.drafts for each in own),
        shares=all(each.shares for each in own),
    )  # fmt: skip


class BothWays(Reading):
    """ChatGLM-6B's prompt, all of which goes through a layer before any of it goes through the next.

    What it is within a stage stays there.
    """

    way: StagedWay

    def __init__(self, way: StagedWay, row: int, prompt: Sequence[int]) -> None:
        super().__init__(way, row, prompt)
        way.rows.begun[row] = len(prompt)
        self.trip, self.ticket = Trip(way.pipeline), way.pipeline.ticket()
        self.course = Course(len(prompt), way.config.num_layers)
        whole = way.reading(row, torch.tensor(prompt), 0, len(prompt), wanted=1)
        self.work = replace(whole, number=self.ticket.number)

    @property
    def left(self) -> int:
        return self.course.left

    @torch.inference_mode()
    def advance(self, most: int) -> Tensor | None:
        way, stretches = self.way, self.course.go_on(most)
        way.pipeline.forget_dropped()
        for handle, stage in zip(way.pipeline.handles, way.pipeline.facts, strict=True):
            if own := tuple(each for each in stretches if stage.first <= each.layer < stage.last):
                self.trip.go(handle, replace(self.work, stretches=own))
        if self.left:
            self.trip.wait()
            return None
        logits = tensor_of(self.trip.result())[0]
        way.rows.hold(self.row, self.prompt)
        return logits
