"""Limits that leave no memory or no thread: `check` ends, with a report."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from glmcore import programs, workers

ROOT = Path(__file__).resolve().parents[2]


def test_threads_that_cannot_be_started_leave_the_work_to_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    started: list[object] = []
    plain = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        plain(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert workers.each(lambda n: n * n, list(range(20)), 4) == [n * n for n in range(20)]


def test_little_address_space_means_no_thread_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that finds no memory dies before it says that it began, and is waited for without end."""
    import threading

    monkeypatch.setattr(resource, "getrlimit", lambda what: (200_000 * 1024, resource.RLIM_INFINITY))
    me = threading.current_thread()
    assert workers.each(lambda _: threading.current_thread() is me, [1, 2, 3], 4) == [True] * 3


@pytest.mark.parametrize("limit", ["ulimit -v 200000", "unset PATH"])
def test_check_ends_with_a_report(limit: str, tmp_path: Path) -> None:
    chosen = "--only system.cpu --only system.memory --only compiler.found"
    script = f"{limit}; exec {sys.executable} -m glmdoctor check --json {chosen}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    report = json.loads(done.stdout)
    assert done.returncode in (0, 1), done.stderr
    assert report["summary"]["crashed"] == 0


def test_a_child_has_a_path_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one a compiler does not find its assembler, and every instruction set is tried in vain."""
    monkeypatch.delenv("PATH")
    told = programs.run([sys.executable, "-c", "import os; print(os.environ['PATH'])"], 20)
    assert told.out.strip() == programs.absolute(os.defpath)


def test_a_snapshot_keeps_to_the_umask(tmp_path: Path) -> None:
    from glmdoctor.cli.output import write_file

    before = os.umask(0o077)
    try:
        write_file(str(tmp_path / "machine.json"), "{}\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "machine.json").stat().st_mode) == 0o600
