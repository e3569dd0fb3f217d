"""Engines that the tests of this folder share: each is compiled once in a run, by whoever asks for it first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from shallow import make_shallow

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.compiled import make
from glmcore.compiled.combine import combine
from glmcore.compiled.crew import Crew
from glmcore.compiled.graphs import compile_into
from glmcore.compiled.make import Request, compile_engine
from glmcore.place.loader import plan_on_cpu

BOTH = ("prefill", "decode")
# Name → roles, prefill length, total length, least and most rows.
RECIPES = {
    "usual": (BOTH, 256, 2048, (1, 8)),
    "wide": (("prefill",), 1024, 2048, (1, 8)),
    "long": (BOTH, 2048, 8192, (1, 1)),
}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    shelf = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engines"
    shelf.mkdir(exist_ok=True)
    return shelf


@pytest.fixture(scope="session")
def shallow(shelf: Path) -> Path:
    """The demo model's checkpoint without all layers but the first, for as many tokens as anybody asks."""
    folder = shelf / "shallow"
    with FileLock(shelf / "shallow.lock"):
        if not folder.exists():
            make_shallow(demo.folder(), folder, seq_length=32768)
    return folder


@contextmanager
def compiling_here() -> Iterator[None]:
    """Graphs are compiled by this process, which has imported torch, and not side by side: other tests have the other
    cores. (test_compile's engine is compiled as users' are.)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Crew, "compile", lambda crew, task, step: compile_into(task, step))
        patch.setattr(make, "MOST_AT_ONCE", 1)
        yield


@pytest.fixture(scope="session")
def engine(shelf: Path, shallow: Path) -> Callable[[str], Path]:
    """The engine of a recipe, made of ``shallow`` in float32."""

    def made(name: str) -> Path:
        with FileLock(shelf / f"{name}.lock"):
            if not (shelf / name).exists():
                roles, pre_len, total_len, batch = RECIPES[name]
                with open_checkpoint(shallow) as checkpoint, compiling_here():
                    plan = plan_on_cpu(checkpoint.config, "float32")
                    request = Request(checkpoint.config, plan, name, pre_len, total_len, batch, roles)
                    compile_engine(request, shelf / name, checkpoint)
        return shelf / name

    return made


@pytest.fixture(scope="session")
def several(shelf: Path, engine: Callable[[str], Path]) -> Path:
    """An engine that reads prompts by 256 and by 1024 tokens."""
    with FileLock(shelf / "several.lock"):
        if not (shelf / "several").exists():
            combine([engine("usual"), engine("wide")], shelf / "several")
    return shelf / "several"
