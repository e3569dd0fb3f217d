"""Models in stages, here or each in a process of its own, as the tests of several rooms want them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from glmcore.engine.stages.calls import Answered, Call
from glmcore.engine.stages.load import load_stage
from glmcore.engine.stages.pipeline import Handle, Local, Pending, Pipeline
from glmcore.engine.stages.runner import StagedRunner
from glmcore.engine.stages.stage import Stage


def stages_of(folder: Path, cuts: tuple[int, ...], layers: int, **settings: Any) -> list[Stage]:
    """The model of a folder, cut before these layers."""
    return [load_stage(folder, a, b, threads=1, **settings) for a, b in pairwise((0, *cuts, layers))]


def in_stages(folder: Path, cuts: tuple[int, ...], config: Any, **settings: Any) -> StagedRunner:
    stages = stages_of(folder, cuts, config.num_layers, **settings)
    return StagedRunner(Pipeline([Local(stage) for stage in stages]), config)


class Waiting:
    """What a thread will answer."""

    def __init__(self, future: Future[Answered]) -> None:
        self.future = future

    def result(self) -> Answered:
        return self.future.result(60)

    def wait(self) -> None:
        self.future.exception(60)


class InThread:
    """A stage that computes in a thread of its own, one call after the other, as it would on a machine of its own."""

    def __init__(self, stage: Any) -> None:
        self.stage, self.name = stage, stage.name
        self.pool = ThreadPoolExecutor(1)

    def submit(self, call: Call, before: Pending | None = None) -> Waiting:
        return Waiting(self.pool.submit(lambda: self.stage.run(call, before.result() if before else None)))


class InProcess(InThread):
    """A stage in a real process, which can be killed. A thread here passes on what it is sent and what it answers."""

    def __init__(self, name: str, folder: Path, first: int, last: int, **settings: Any) -> None:
        self.name, self.pool = name, ThreadPoolExecutor(1)
        begin = multiprocessing.get_context("spawn")
        self.pipe, other = begin.Pipe()
        self.process = begin.Process(target=serve, args=(other, name, folder, first, last, settings), daemon=True)
        self.process.start()
        other.close()
        self.stage = self

    def run(self, call: Call, before: Answered) -> Answered:
        self.pipe.send((call, before))
        return self.pipe.recv()  # EOFError where nobody is there any more

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(20)

    def close(self) -> None:
        self.pool.shutdown()
        self.pipe.close()
        self.process.kill()
        self.process.join(20)


def serve(pipe: Connection, name: str, folder: Path, first: int, last: int, settings: dict[str, Any]) -> None:
    """What the process does until nobody asks."""
    stage = load_stage(folder, first, last, name=name, threads=1, **settings)
    try:
        while True:
            pipe.send(stage.run(*pipe.recv()))
    except (EOFError, OSError):
        pass


class Faulty:
    """A stage here that is lost, or has no memory, when a test says so: a double of what breaks at any moment."""

    def __init__(self, handle: Handle) -> None:
        self.handle, self.name = handle, handle.name
        self.calls: list[Call] = []
        self.lost_at: int | None = None  # the number of calls after which it is gone
        self.guard = threading.Lock()

    def submit(self, call: Call, before: Pending | None = None) -> Pending:
        with self.guard:
            if self.lost_at is not None and len(self.calls) >= self.lost_at:
                raise ConnectionError("gone")
            self.calls.append(call)
        return self.handle.submit(call, before)
