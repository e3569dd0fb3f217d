"""The script for a card, run without one: its parts, its files, and how it judges."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check.py"
spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
gpu_check = importlib.util.module_from_spec(spec)
sys.modules["gpu_check"] = gpu_check
spec.loader.exec_module(gpu_check)


def test_every_part_runs_on_the_cpu(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--cpu", "--out", str(tmp_path)], capture_output=True, text=True, timeout=280
    )
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    absent = {name: note for name, note in result["notes"].items() if "no golden data" in note}
    assert done.returncode == bool(absent), (done.stdout, done.stderr)
    figures = result["figures"]
    for name in ("decode fp16 1x16", "decode int4 2x16", "prefill int4 8", "generate fp16", "copy GB/s"):
        assert figures[name] > 0
    if not absent:
        assert figures["error v2/int4 split by torch"] < 1e-4
    assert "| int4 decode over fp16 | 2.2 | not measured |" in (tmp_path / "gpu_check.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a card")
def test_without_a_card_it_says_so():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "torch sees no card" in done.stderr and "Traceback" not in done.stderr


def test_goals_are_ratios_of_figures():
    figures = {"decode fp16 1x512 share": 0.8, "decode fp16 1x512": 200.0, "decode int4 1x512": 500.0}
    reached = {goal["goal"]: goal["reached"] for goal in gpu_check.goals(figures)}
    assert reached["fp16 decode, share of copy bandwidth"] == 0.8
    assert reached["int4 decode over fp16"] == 2.5
    assert reached["int8 decode over fp16"] is None


def test_a_part_that_fails_or_comes_too_late_is_a_note():
    record = gpu_check.Record(seconds=60)
    record.part("broken", lambda: 1 / 0)
    record.ends = 0
    record.part("late", lambda: pytest.fail("begun"))
    assert record.notes == {"broken": "failed: ZeroDivisionError: division by zero", "late": "left out: no time left"}


def test_the_wanted_backend_is_taken_back(monkeypatch):
    monkeypatch.setenv(gpu_check.choice.WANTED, "torch")
    with gpu_check.wanted("triton"):
        assert gpu_check.os.environ[gpu_check.choice.WANTED] == "triton"
    assert gpu_check.os.environ[gpu_check.choice.WANTED] == "torch"
