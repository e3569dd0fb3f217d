"""The comparison of stages with one piece: a whole run of few rounds, which checks the bits on the way."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_stages.py"
spec = importlib.util.spec_from_file_location("bench_stages", SCRIPT)
bench_stages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_stages)


def test_it_measures_both_models_in_one_two_and_four_stages(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(bench_stages, "ROUNDS", 1)
    monkeypatch.setattr(bench_stages.sys, "argv", ["bench_stages.py"])
    bench_stages.main()
    said = capsys.readouterr().out
    assert said.count("the same bits") == 2 and "28 narrow layers: 28 layers, int8" in said
    assert len(re.findall(r"^  (?:in one piece|[124] stage\(s\)) +\d+\.\d{3} ms a token", said, re.M)) == 8
