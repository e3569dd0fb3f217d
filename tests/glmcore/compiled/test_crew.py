"""Graphs side by side: processes that end with whoever asked for them, however that ends, and what they say."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from glmcore.compiled import crew as crew_module
from glmcore.compiled.crew import Crew
from glmcore.errors import GlmError

ROOT = Path(__file__).resolve().parents[3]
# In place of torch's compiler: it starts a compiler of its own, and says by its step which process that is.
WORKER = """
import subprocess, sys, warnings
from glmcore.compiled import graphs
from glmcore.errors import GlmError

def compile_into(task, step):
    if task["graph"] == "sleep":
        compiler = subprocess.Popen(["sleep", "600"])
        step(str(compiler.pid))
        compiler.wait()
    warnings.warn("a line of torch's", FutureWarning)
    if task["graph"] == "refuse":
        raise GlmError("compile-failed", "no such instruction", where="g++", hint="another compiler")
    if task["graph"] == "full":
        raise OSError(28, "No space left on device", "/full")
    if task["graph"] == "break":
        raise ZeroDivisionError("a fault of torch's")
    if task["graph"] == "die":
        import os
        os.kill(os.getpid(), 9)

graphs.compile_into = compile_into
graphs.main()
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch) -> Path:
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    monkeypatch.setattr(crew_module, "GRAPHS", str(path))
    return path


def gone(*pids: int) -> bool:
    """Whether they end; a machine may take its time, none takes a minute."""
    end = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def ignore(label: str) -> None:
    pass


@pytest.mark.usefixtures("worker")
def test_an_interrupt_ends_those_at_work_and_what_they_started() -> None:
    crew, pids = Crew(), []
    asleep = threading.Event()

    def note(label: str) -> None:
        pids.append(int(label))
        asleep.set()

    def interrupt() -> None:
        assert asleep.wait(60)
        raise KeyboardInterrupt

    jobs: dict[str, Callable[[], None]] = {"a": partial(crew.compile, {"graph": "sleep"}, note), "b": interrupt}
    with pytest.raises(KeyboardInterrupt):
        crew.share(jobs, 2)
    [child] = crew.children
    assert child.returncode == -signal.SIGKILL and gone(*pids)


def test_none_outlives_a_process_that_was_killed(worker: Path) -> None:
    program = (
        "from glmcore.compiled import crew\n"
        f"crew.GRAPHS = {str(worker)!r}\n"
        "one = crew.Crew()\n"
        "one.compile({'graph': 'sleep'}, lambda label: print(one.children[0].pid, label, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as asking:
        pids = [int(word) for word in asking.stdout.readline().split()]
        asking.kill()
    assert len(pids) == 2 and gone(*pids)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("refuse", r"^no such instruction, g\+\+, another compiler$"),
        ("break", "could not be compiled: ZeroDivisionError: a fault of torch's$"),
        ("die", "could not be compiled: signal 9, is there enough memory"),
    ],
)
def test_a_failure_is_told_as_it_was(graph: str, words: str) -> None:
    with pytest.raises(GlmError, match=words) as caught:
        Crew().compile({"graph": graph}, ignore)
    assert caught.value.code == "compile-failed"


@pytest.mark.usefixtures("worker")
def test_a_full_disk_is_one_and_a_warning_is_nobodys(capfd) -> None:
    Crew().compile({"graph": "well"}, ignore)
    with pytest.raises(OSError, match="No space left") as caught:
        Crew().compile({"graph": "full"}, ignore)
    assert (caught.value.errno, caught.value.filename) == (28, "/full")
    assert capfd.readouterr() == ("", "")
    assert "PYTHONWARNINGS" not in os.environ


def test_a_process_takes_the_glmcore_that_asks_for_it(tmp_path: Path, monkeypatch) -> None:
    """Not another one that is installed."""
    for name in ("__init__", "errors", "compiled/__init__", "compiled/graphs"):
        path = tmp_path / "glmcore" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((ROOT / "glmcore" / f"{name}.py").read_bytes())
    (tmp_path / "glmcore" / "compiled" / "build.py").write_text("raise SystemExit(__file__)")
    monkeypatch.setattr(crew_module, "GRAPHS", str(tmp_path / "glmcore" / "compiled" / "graphs.py"))
    with pytest.raises(GlmError, match=re.escape(str(tmp_path))):
        Crew().compile({"graph": "any"}, ignore)
