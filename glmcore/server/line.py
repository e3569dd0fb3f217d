"""One engine for everybody: answers begin in the order in which they were asked for, and are made together."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from glmcore.engine.batch.answer import Answer, Ending, Item, Piece
from glmcore.engine.engine import Engine
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError
from glmcore.server.deltas import NEXT_MESSAGE
from glmcore.server.errors import ApiError
from glmcore.server.waits import WAITING, Waits

log = logging.getLogger("glmcore")


@dataclass(frozen=True)
class Task:
    """A prompt as token ids and how to answer it. ``max_new_tokens`` lies within the context.

    several: whether the answer may be several messages, which the text then shows by NEXT_MESSAGE.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    several: bool = False


class Job:
    """An answer that somebody waits for. ``pieces`` is its text as it comes; then ``ending`` says how it ended."""

    def __init__(self, answer: Answer, gone: Callable[[Job], None]) -> None:
        self.answer, self.gone = answer, gone
        self.ending: Ending | None = None
        self._items: asyncio.Queue[Piece | Ending | Exception] = asyncio.Queue()

    @property
    def running(self) -> bool:
        return self.answer.begun is not None

    async def pieces(self) -> AsyncIterator[str]:
        """Errors: GlmError of the engine; ApiError where the answer was given up."""
        while True:
            item = await self._items.get()
            if isinstance(item, Piece):
                yield item.text
            elif isinstance(item, Exception):
                raise item
            else:
                self.ending = item
                return

    def cancel(self) -> None:
        """Nobody waits for this any more; who does after all hears of it. Has no effect once it has ended."""
        self.answer.cancel()
        if not self.running:
            self.gone(self)
        self.put(ApiError(503, "the answer was given up: the server ends, or its client has gone", code="given_up"))

    def put(self, item: Piece | Ending | Exception) -> None:
        """For the event loop's thread."""
        self._items.put_nowait(item)


class Line:
    """First come, first served. Its methods are for the event loop's thread; the engine computes in one of its own.

    ended: told each ending of an answer that had begun.
    """

    def __init__(self, engine: Engine, ended: Callable[[Ending], None], waiting: int = WAITING) -> None:
        self.engine, self.ended, self.limit = engine, ended, waiting
        self._jobs: set[Job] = set()
        self._waits = Waits(engine.loop.scheduler.parallel)
        self._closed = False
        self.asked = self.refused = 0

    @property
    def running(self) -> int:
        return sum(job.running for job in self._jobs)

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    def join(self, task: Task) -> Job:
        """The task at the end of the line. Errors: ApiError(503) where it is full."""
        self.asked += 1
        if self._closed:
            raise ApiError(503, "the server ends", code="given_up")
        if len(self._jobs) >= self.limit + self.engine.loop.scheduler.parallel:
            self.refused += 1
            raise self._full()
        answer = self.engine.submit(
            task.prompt, max_new_tokens=task.max_new_tokens, sampling=task.sampling, stop=task.stop,
            shown=(NEXT_MESSAGE,) if task.several else (),
        )  # fmt: skip
        job, loop = Job(answer, self._jobs.discard), asyncio.get_running_loop()
        self._jobs.add(job)

        def heard(item: Item) -> None:
            with suppress(RuntimeError):  # what a closed loop raises; nobody listens any more
                loop.call_soon_threadsafe(self._hear, job, item)

        answer.listen(heard)
        return job

    def _hear(self, job: Job, item: Item) -> None:
        """What the engine says of a job."""
        if isinstance(item, Piece):
            if item.text:
                job.put(item)
            return
        self._jobs.discard(job)
        if isinstance(item, Ending) and job.running:
            self._waits.note(item.took_s)
            self.ended(item)
        job.put(failure(item) if isinstance(item, Exception) else item)

    def _full(self) -> ApiError:
        now = time.perf_counter()
        running_s = max((now - job.answer.begun for job in self._jobs if job.answer.begun is not None), default=0.0)
        seconds = self._waits.promise(now, self.waiting, running_s)
        whole = math.ceil(seconds)
        # openai's clients prefer the second: told whole seconds, those of short answers would come back in clumps.
        headers = {"Retry-After": str(whole), "Retry-After-Ms": str(round(seconds * 1000))}
        message = f"{self.limit} answers wait already; try again in {whole} s"
        return ApiError(503, message, code="queue_full", headers=headers)

    def close(self) -> None:
        """Give up what is left; the line takes nothing more."""
        self._closed = True
        for job in list(self._jobs):
            job.cancel()

    def idle_within(self, seconds: float) -> bool:
        """Whether the engine comes to rest in that time, after ``close``."""
        return self.engine.loop.idle_within(seconds)


def failure(error: Exception) -> GlmError:
    """What clients hear. The log has the exception's kind, and its text only where it is the engine's own."""
    if isinstance(error, GlmError):
        log.error("%s", error)
        return error
    log.error("an answer failed: %s", type(error).__name__, exc_info=error)
    if isinstance(error, MemoryError):
        return GlmError("memory-short", "out of memory")
    return GlmError("internal", f"the model failed: {type(error).__name__}")
