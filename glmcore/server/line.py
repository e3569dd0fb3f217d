"""One engine for everybody: answers are made one after the other, in the order in which they were asked for."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from glmcore.engine.engine import Engine
from glmcore.engine.stats import Stats
from glmcore.errors import GlmError
from glmcore.server.answering import Task, answer
from glmcore.server.errors import ApiError
from glmcore.server.waits import WAITING, Waits

log = logging.getLogger("glmcore")


@dataclass(frozen=True)
class Ending:
    """How an answer ended, what it cost, and the seconds it waited and took."""

    finish_reason: str  # "stop", "length", "cancelled"
    stats: Stats
    waited_s: float
    took_s: float


class Job:
    """A task in the line. ``pieces`` is its text as it comes; afterwards ``ending`` says how it ended."""

    def __init__(self, task: Task, loop: asyncio.AbstractEventLoop) -> None:
        self.task, self.loop = task, loop
        self.future: Future[None] | None = None
        self.ending: Ending | None = None
        self.asked = self.started = time.perf_counter()
        self.cancelled = threading.Event()
        self._items: asyncio.Queue[str | Ending | Exception] = asyncio.Queue()

    @property
    def running(self) -> bool:
        return self.future is not None and self.future.running()

    async def pieces(self) -> AsyncIterator[str]:
        """Errors: GlmError of the engine; ApiError where the answer was given up."""
        while True:
            item = await self._items.get()
            if isinstance(item, str):
                yield item
            elif isinstance(item, Exception):
                raise item
            else:
                self.ending = item
                return

    def cancel(self) -> None:
        """Nobody waits for this any more; who does after all hears of it. Has no effect once it has ended."""
        self.cancelled.set()
        if self.future is not None:
            self.future.cancel()
        self.put(ApiError(503, "the answer was given up: the server ends, or its client has gone", code="given_up"))

    def put(self, item: str | Ending | Exception) -> None:
        """For the event loop's thread."""
        self._items.put_nowait(item)

    def emit(self, item: str | Ending | Exception) -> None:
        """For the engine's thread."""
        if item != "":
            self.tell(self.put, item)

    def tell(self, function: Callable[..., object], *arguments: object) -> None:
        """Call ``function`` in the event loop's thread, unless the server has ended meanwhile."""
        with suppress(RuntimeError):  # what a closed loop raises; nobody listens any more
            self.loop.call_soon_threadsafe(function, *arguments)


class Line:
    """First come, first served. Its methods are for the event loop's thread; the engine has a thread of its own.

    ended: told each ending. Only ever one thread computes: OpenMP would keep a team of threads for each that did.
    """

    def __init__(self, engine: Engine, ended: Callable[[Ending], None], waiting: int = WAITING) -> None:
        self.engine, self.ended, self.limit = engine, ended, waiting
        self._jobs: set[Job] = set()
        self._pool = ThreadPoolExecutor(1, "engine")
        self._waits = Waits()
        self.refused = 0

    @property
    def running(self) -> int:
        return sum(job.running for job in self._jobs)

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self.running

    def join(self, task: Task) -> Job:
        """The task at the end of the line. Errors: ApiError(503) where it is full."""
        if len(self._jobs) > self.limit:
            self.refused += 1
            raise self._full()
        job = Job(task, asyncio.get_running_loop())
        self._jobs.add(job)
        job.future = self._pool.submit(self._work, job)
        job.future.add_done_callback(lambda _: job.tell(self._jobs.discard, job))
        return job

    def _full(self) -> ApiError:
        now = time.perf_counter()
        running_s = max((now - job.started for job in self._jobs if job.running), default=0.0)
        seconds = self._waits.promise(now, self.waiting, running_s)
        whole = math.ceil(seconds)
        # openai's clients prefer the second: told whole seconds, those of short answers would come back in clumps.
        headers = {"Retry-After": str(whole), "Retry-After-Ms": str(round(seconds * 1000))}
        message = f"{self.limit} answers wait already; try again in {whole} s"
        return ApiError(503, message, code="queue_full", headers=headers)

    def close(self) -> None:
        """Give up what is left; the line takes nothing more."""
        for job in list(self._jobs):
            job.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def idle_within(self, seconds: float) -> bool:
        """Whether the engine comes to rest in that time, after ``close``."""
        return not wait([job.future for job in self._jobs if job.future], timeout=seconds).not_done

    def _work(self, job: Job) -> None:
        """In the engine's thread: one answer and its end."""
        job.started = time.perf_counter()
        try:
            reason = answer(self.engine, job.task, job.emit, job.cancelled.is_set)
        except Exception as error:
            job.emit(failure(error))
            return
        ending = Ending(reason, self.engine.stats, job.started - job.asked, time.perf_counter() - job.started)
        job.tell(self._note, ending)
        job.emit(ending)

    def _note(self, ending: Ending) -> None:
        self._waits.note(ending.took_s)
        self.ended(ending)


def failure(error: Exception) -> GlmError:
    """What clients hear. The log has the exception's kind, and its text only where it is the engine's own."""
    if isinstance(error, GlmError):
        log.error("%s", error)
        return error
    log.error("an answer failed: %s", type(error).__name__, exc_info=error)
    if isinstance(error, MemoryError):
        return GlmError("memory-short", "out of memory")
    return GlmError("internal", f"the model failed: {type(error).__name__}")
