"""The stages of one model as their leader sees them: what is sent to each, and what comes back or does not."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from glmcore.engine.stages.calls import Answered, Call, Describe, Drop, Facts, Failed, Work
from glmcore.errors import GlmError


class Pending(Protocol):
    """What a stage will answer."""

    def result(self) -> Answered:
        """Waits for it and fetches it. Errors: any, where the stage is lost; GlmError("stage-lost") as it is."""

    def wait(self) -> None:
        """Waits for it, and fetches and raises nothing."""


class Handle(Protocol):
    """A stage, here or elsewhere. What is submitted is done in that order, one call at a time."""

    name: str

    def submit(self, call: Call, before: Pending | None = None) -> Pending:
        """Have ``Stage.run(call, …)`` done and do not wait. before: what the stage before this one was given to do, or
        this stage itself last; its answer is what ``run`` is given, and need not come by the leader."""


class Local:
    """A stage in this process, which computes when somebody waits for what it was asked, or for what came later.

    Until then a leader can send more to the stages before it: they work on the next chunk while this one has another.
    """

    def __init__(self, stage: Any) -> None:
        self.stage, self.name = stage, stage.name
        self.asked: deque[Later] = deque()

    def submit(self, call: Call, before: Pending | None = None) -> Later:
        self.asked.append(Later(self, call, before))
        return self.asked[-1]

    def do_next(self) -> None:
        self.asked.popleft().do(self.stage)


class Later:
    """What a stage in this process is to answer."""

    def __init__(self, local: Local, call: Call, before: Pending | None) -> None:
        self.local, self.call, self.before = local, call, before
        self.done = False
        self.answer: Answered = None
        self.error: Exception | None = None

    def do(self, stage: Any) -> None:
        """Errors are kept for whoever asks: they are those of a stage that is lost."""
        try:
            self.answer = stage.run(self.call, None if self.before is None else self.before.result())
        except Exception as error:
            self.error = error
        self.done, self.before = True, None

    def wait(self) -> None:
        while not self.done:
            self.local.do_next()

    def result(self) -> Answered:
        self.wait()
        if self.error is not None:
            raise self.error
        return self.answer


class Pipeline:
    """Stages that follow each other through all layers of one model.

    A stage that is lost takes all of them with it: every call from then on raises the same GlmError("stage-lost").
    Errors: GlmError("plan-invalid") where they do not make up a model; those of the stages, which say where.
    """

    def __init__(self, handles: Sequence[Handle]) -> None:
        self.handles = list(handles)
        self.lost: GlmError | None = None
        self.facts: list[Facts] = self.all(Describe())
        check_complete(self.facts)
        self._numbers = itertools.count()
        self._dropped: list[int] = []

    @property
    def names(self) -> str:
        return ", ".join(handle.name for handle in self.handles)

    def all(self, call: Call) -> list[Any]:
        """Have every stage do it, at once; what each answered. All have answered when this raises."""
        asked = [self._submit(handle, call) for handle in self.handles]
        answers = [self._answer(handle, each) for handle, each in zip(self.handles, asked, strict=True)]
        for answer in answers:
            if isinstance(answer, Failed):
                raise answer.error()
        return answers

    def send(self, work: Work) -> Trip:
        """Tokens on their way through all stages."""
        trip = Trip(self)
        for handle in self.handles:
            trip.go(handle, work)
        return trip

    def run(self, work: Work) -> np.ndarray:
        """Logits [wanted, V] in float32 of tokens that go through all stages."""
        self.forget_dropped()
        return self.send(work).result()

    def ticket(self) -> Ticket:
        """A number under which the stages keep something, until nobody has the ticket any more."""
        ticket = Ticket(next(self._numbers))
        weakref.finalize(ticket, self._dropped.append, ticket.number)
        return ticket

    def forget_dropped(self) -> None:
        """Have the stages let go of what was taken and is not wanted any more."""
        numbers = [self._dropped.pop() for _ in range(len(self._dropped))]  # more may come meanwhile, from any thread
        for handle in self.handles if numbers else ():
            self._submit(handle, Drop(tuple(numbers)))

    def _submit(self, handle: Handle, call: Call, before: Pending | None = None) -> Pending:
        if self.lost is not None:
            raise self.lost
        try:
            return handle.submit(call, before)
        except Exception as error:
            raise self._loss(handle, error) from error

    def _answer(self, handle: Handle, pending: Pending) -> Answered:
        try:
            return pending.result()
        except Exception as error:
            raise self._loss(handle, error) from error

    def _loss(self, handle: Handle, error: Exception) -> GlmError:
        """The one error that all hear from now on."""
        if self.lost is None:
            known = isinstance(error, GlmError) and error.code == "stage-lost"
            what = error.what if known else f"stage {handle.name} does not answer any more ({type(error).__name__})"
            where = error.where if known else f"one of the stages {self.names}"
            self.lost = GlmError("stage-lost", what, where=where, hint="ask again: the model is set up anew")
        return self.lost


class Trip:
    """Tokens on their way from stage to stage."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.legs: list[tuple[Handle, Pending]] = []

    def go(self, handle: Handle, work: Work) -> None:
        """On to a stage, or further through the same one."""
        before = self.legs[-1][1] if self.legs else None
        self.legs.append((handle, self.pipeline._submit(handle, work, before)))

    def wait(self) -> None:
        """Until they are where they were sent last."""
        self.legs[-1][1].wait()

    def result(self) -> np.ndarray:
        """Logits [wanted, V] after the last stage. Errors: those of the stages."""
        last, pending = self.legs[-1]
        try:
            answer = pending.result()
        except Exception as error:
            # Who waits for a lost stage fails as well: the first that does is the one.
            for handle, earlier in self.legs[:-1]:
                self.pipeline._answer(handle, earlier)
            raise self.pipeline._loss(last, error) from error
        if isinstance(answer, Failed):
            raise answer.error()
        return answer


@dataclass(eq=False)
class Ticket:
    """What stages keep apart for the leader, by its number."""

    number: int


def check_complete(facts: Sequence[Facts]) -> None:
    """GlmError("plan-invalid") where stages are not those of one model, from its first layer to its last."""
    spans = ", ".join(f"{each.name}: layers {each.first}-{each.last - 1} of {each.model}" for each in facts)
    follow = all(one.last == other.first for one, other in pairwise(facts))
    whole = facts[0].first == 0 and facts[-1].last == facts[-1].layers
    if not (follow and whole) or len({(each.model, each.generation, each.layers, each.bits) for each in facts}) > 1:
        raise GlmError("plan-invalid", "the stages do not make up one model", where=spans, hint="load them by one plan")
