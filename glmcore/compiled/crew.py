"""Graphs compiled side by side, each by a process of its own (``graphs``), for one of them keeps but one core busy.

None of them outlives this process: each ends when its input does, however that came about.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from glmcore import programs
from glmcore.errors import GlmError, plain

GRAPHS = str(Path(__file__).with_name("graphs.py"))
# What torch warns of is its own use of itself.
FLAGS = ("-B", "-W", "ignore")

Made = TypeVar("Made")


class Crew:
    """Those at work; ``close`` ends them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.children: list[Any] = []  # as ``programs.begin`` starts them
        self.closed = False

    def share(self, jobs: Mapping[str, Callable[[], Made]], at_once: int) -> dict[str, Made]:
        """What each job gives, some of them at once; where one fails, or we are interrupted, all others end.

        Errors: the first one's.
        """
        with ThreadPoolExecutor(at_once) as pool:
            begun = {name: pool.submit(job) for name, job in jobs.items()}
            try:
                done, _ = wait(begun.values(), return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise
            return {name: future.result() for name, future in begun.items()}

    def compile(self, task: Mapping[str, Any], step: Callable[[str], None]) -> None:
        """Have ``graphs.compile_into`` done by a process. Errors: as there."""
        with self.start() as child:
            with suppress(BrokenPipeError):  # it has ended already, and says why
                child.stdin.write(json.dumps(task) + "\n")
                child.stdin.flush()
            ended: Mapping[str, Any] = {}
            last = ""
            for line in child.stdout:
                said = message(line)
                if "step" in said:
                    step(said["step"])
                elif said:
                    ended = said
                else:
                    last = line.strip() or last
        check(ended, last, child.returncode)

    def start(self) -> Any:
        """A process that waits for its task. Errors: GlmError("compile-failed") after ``close``, OSError."""
        with self.lock:
            if self.closed:
                raise GlmError("compile-failed", "compiling was stopped")
            command = programs.with_packages(programs.own_python(), GRAPHS, flags=FLAGS)
            child = programs.begin(command)
            self.children.append(child)
        return child

    def close(self) -> None:
        """End those at work, and let none begin."""
        with self.lock:
            self.closed = True
            for child in self.children:
                with suppress(OSError):
                    child.stdin.close()


def message(line: str) -> Mapping[str, Any]:
    """What a line tells; nothing where it is another program's."""
    with suppress(ValueError):
        if isinstance(found := json.loads(line), dict):
            return found
    return {}


def check(said: Mapping[str, Any], last: str, status: int) -> None:
    """What a process said at its end, or ``last`` before it broke down. Errors: as ``graphs.compile_into``."""
    if "error" in said:
        code, what, where, hint = said["error"]
        raise GlmError(code, what, where=where, hint=hint)
    if "system" in said:
        raise OSError(*said["system"])
    if "done" not in said:
        why = f"signal {-status}" if status < 0 else last or f"exit status {status}"
        hint = "is there enough memory?" if status < 0 else ""
        raise GlmError("compile-failed", f"a graph could not be compiled: {plain(why, 300)}", hint=hint)
