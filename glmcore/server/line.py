"""One engine for everybody: answers begin in the order in which they were asked for, and are made together."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from glmcore.chat.deltas import NEXT_MESSAGE
from glmcore.engine.batch.answer import Answer, Ending, Item, Piece
from glmcore.engine.engine import Engine
from glmcore.engine.observers import Observer
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError
from glmcore.grammar import Grammar
from glmcore.server.errors import ApiError
from glmcore.server.waits import WAITING, Waits

log = logging.getLogger("glmcore")


@dataclass(frozen=True)
class Task:
    """A prompt as token ids and how to answer it. ``max_new_tokens`` lies within the context.

    several: whether the answer may be several messages, which the text then shows by NEXT_MESSAGE. grammar: what it
    may be. begun: whether its text goes on from the prompt's.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    keeps_stop: bool = False
    several: bool = False
    logprobs: int | None = None
    grammar: Grammar | None = None
    observer: Observer | None = None
    begun: bool = False


class Entry:
    """An answer in the line; ``hear`` is called with what the engine says of it."""

    def __init__(self, answer: Answer, hear: Callable[[Item], None], gone: Callable[[Entry], None]) -> None:
        self.answer, self.hear, self.gone = answer, hear, gone

    @property
    def running(self) -> bool:
        return self.answer.begun is not None

    def cancel(self) -> None:
        """Nobody waits for this any more; who does after all hears of it. Has no effect once it has ended."""
        self.answer.cancel()
        if not self.running:
            self.gone(self)
        self.hear(ApiError(503, "the answer was given up: the server ends, or its client has gone", code="given_up"))


class Job:
    """The answers that one request waits for: all are given up together.

    in_turn: whether each task enters the line when the one before has ended, in its place, or all at once.
    """

    def __init__(self, tasks: Sequence[Task], enter: Callable[[Task, Callable[[Item], None]], Entry], in_turn: bool):
        self.count, self.entries, self.endings = len(tasks), list[Entry](), dict[int, Ending]()
        self._tasks, self._put_in, self._in_turn = deque(tasks), enter, in_turn
        self._heard: asyncio.Queue[tuple[int, Item]] = asyncio.Queue()
        self._enter()

    def _enter(self) -> None:
        while self._tasks:
            self.entries.append(self._put_in(self._tasks.popleft(), partial(self._hear, len(self.entries))))
            if self._in_turn:
                return

    @property
    def answers(self) -> list[Answer]:
        return [entry.answer for entry in self.entries]

    def _hear(self, number: int, item: Item) -> None:
        self._heard.put_nowait((number, item))
        if isinstance(item, Ending) and self._in_turn:
            self._enter()

    async def items(self) -> AsyncIterator[tuple[int, Piece | Ending]]:
        """What comes of all answers until the last one ends, each with the number of its answer.

        Errors: GlmError of the engine; ApiError where an answer was given up.
        """
        while len(self.endings) < self.count:
            number, item = await self._heard.get()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Ending):
                self.endings[number] = item
            yield number, item

    def cancel(self) -> None:
        """Nobody waits for any of them any more."""
        self._tasks.clear()
        for entry in self.entries:
            entry.cancel()


class Line:
    """First come, first served. Its methods are for the event loop's thread; the engine computes in one of its own.

    ended: told each ending of an answer that had begun.
    """

    def __init__(self, engine: Engine, ended: Callable[[Ending], None], waiting: int = WAITING) -> None:
        self.engine, self.ended, self.limit = engine, ended, waiting
        self._entries: set[Entry] = set()
        self._waits = Waits(engine.parallel)
        self._closed = False
        self.asked = self.refused = 0

    @property
    def running(self) -> int:
        return sum(entry.running for entry in self._entries)

    @property
    def waiting(self) -> int:
        return len(self._entries) - self.running

    @property
    def places(self) -> int:
        """Answers that are made or wait at most."""
        return self.limit + self.engine.parallel

    def check(self, answers: int) -> None:
        """Errors: ApiError(400) for a request of more answers than there are places, which would never come in."""
        if answers > self.places:
            message = f"the request asks for {answers} answers; this server takes {self.places} at most at a time"
            raise ApiError(400, message, code="too_many_answers")

    def join(self, tasks: Sequence[Task], in_turn: bool = False) -> Job:
        """The tasks at the end of the line, all of them or none; ``in_turn`` they take one place together.

        Errors: ApiError(503) where it is full.
        """
        places = 1 if in_turn else len(tasks)
        self.asked += places
        if self._closed:
            raise ApiError(503, "the server ends", code="given_up")
        if len(self._entries) + places > self.places:
            self.refused += places
            raise self._full()
        with self.engine.together():
            return Job(tasks, self._enter, in_turn)

    def _enter(self, task: Task, hear: Callable[[Item], None]) -> Entry:
        answer = self.engine.submit(
            task.prompt, max_new_tokens=task.max_new_tokens, sampling=task.sampling, stop=task.stop,
            stop_ids=task.stop_ids, keeps_stop=task.keeps_stop, shown=(NEXT_MESSAGE,) if task.several else (),
            logprobs=task.logprobs, grammar=task.grammar, observer=task.observer, begun=task.begun,
        )  # fmt: skip
        entry, loop = Entry(answer, hear, self._entries.discard), asyncio.get_running_loop()
        self._entries.add(entry)

        def heard(item: Item) -> None:
            with suppress(RuntimeError):  # what a closed loop raises; nobody listens any more
                loop.call_soon_threadsafe(self._hear, entry, item)

        answer.listen(heard)
        return entry

    def _hear(self, entry: Entry, item: Item) -> None:
        """What the engine says of an answer."""
        if isinstance(item, Piece):
            if item.text or item.logprob is not None:
                entry.hear(item)
            return
        self._entries.discard(entry)
        if isinstance(item, Ending) and entry.running:
            if entry.answer.sequence.max_new_tokens:  # what is only read says nothing of how long answers take
                self._waits.note(item.took_s)
            self.ended(item)
        entry.hear(failure(item) if isinstance(item, Exception) else item)

    def _full(self) -> ApiError:
        now = time.perf_counter()
        begun = [entry.answer.begun for entry in self._entries if entry.answer.begun is not None]
        running_s = now - min(begun, default=now)
        seconds = self._waits.promise(now, self.waiting, running_s)
        whole = math.ceil(seconds)
        # openai's clients prefer the second: told whole seconds, those of short answers would come back in clumps.
        headers = {"Retry-After": str(whole), "Retry-After-Ms": str(round(seconds * 1000))}
        message = f"{self.limit} answers wait already; try again in {whole} s"
        return ApiError(503, message, code="queue_full", headers=headers)

    def close(self) -> None:
        """Give up what is left; the line takes nothing more."""
        self._closed = True
        for entry in list(self._entries):
            entry.cancel()

    def idle_within(self, seconds: float) -> bool:
        """Whether the engine comes to rest in that time, after ``close``."""
        return self.engine.idle_within(seconds)


def failure(error: Exception) -> GlmError:
    """What clients hear. The log has the exception's kind, and its text only where it is the engine's own."""
    if isinstance(error, GlmError):
        log.error("%s", error)
        return error
    log.error("an answer failed: %s", type(error).__name__, exc_info=error)
    if isinstance(error, MemoryError):
        return GlmError("memory-short", "out of memory")
    return GlmError("internal", f"the model failed: {type(error).__name__}")
