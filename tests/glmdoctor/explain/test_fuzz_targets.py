"""Every target of scripts/fuzz.py takes its own seeds, so that the script runs when somebody needs it."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("atheris", reason="pip install .[fuzz]")
fuzz = importlib.import_module("fuzz")


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_the_seeds_pass(target: str) -> None:
    check, seeds = fuzz.TARGETS[target]
    for seed in seeds():
        check(seed)
