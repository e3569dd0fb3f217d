"""A model folder to attack, and a watchdog: an attack that hangs fails."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmcore import demo

SECONDS = 60  # far more than any of these takes on a busy machine


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    def fail(*_: object) -> None:
        raise AssertionError(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model, which every clone has."""
    return Path(shutil.copytree(demo.folder(), tmp_path / "model"))
