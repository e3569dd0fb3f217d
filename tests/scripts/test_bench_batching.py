"""The figures of many at once: the section they are written into, and a small soak of a real server."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from batching import expected, soak, table, texts
from batching.tasks import COPIES, TALKS

from glmcore import demo
from glmcore.tokenizers import load_tokenizer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FIGURES = [
    *(
        {"part": "throughput", "precision": precision, "clients": clients, "times": times, "tokens_per_s": 10 * times}
        for precision, most in (("fast", 2), ("light", 4))
        for clients, times in ((1, 1.0), (4, 1.9), (8, most))
    ),
    {"part": "lookup", "precision": "light", "kind": "copy", "task": "edit", "times": 9},
    {"part": "lookup", "precision": "light", "kind": "copy", "times_of_all": 2.5},
    {"part": "stall", "precision": "fast", "longest_gap_s": 0.2},
    {"part": "first", "precision": "fast", "steps": 1.75},
    {"part": "llama.cpp", "alone": 8.0, "together": 16.0},
    {"part": "soak", "requests": 40, "seconds": 3, "wrong": 0, "leaked": 1, "growth": 0,
     **dict.fromkeys(table.FATES, 8)},
]  # fmt: skip


def test_figures_stand_beside_their_goals() -> None:
    about = {"machine": "a machine", "date": "today", "command": "python x"}
    text = table.section(FIGURES, about)
    assert "| 4 clients, total over one client's, `fast` | ≥ 2 × | 1.9 | **no** |" in text
    assert "| 8 clients, total over one client's, `light` | ≥ 3.6 × | 4 | yes |" in text
    assert "| 8 clients, `light` / llama.cpp, one after the other | ≥ 1.5 × | 5 | yes |" in text
    assert "| 8 clients, `fast` / llama.cpp, side by side | ≥ 1.5 × | 1.25 | **no** |" in text
    assert "| longest gap while 2,000 tokens are read | ≤ 300 ms | 200 | yes |" in text
    assert "| first token of 32 beside a running answer, over its prefill | ≤ 1.5 steps | 1.75 | **no** |" in text
    assert "| copy tasks with lookup, `light` | ≥ 2 × | 2.5 | yes |" in text
    assert "| free chat with lookup, `fast` | ≥ 0.98 × | not measured | – |" in text
    assert "| soak: rows that stayed taken | ≤ 0 | 1 | **no** |" in text and "40 requests in 3 s (8 read whole" in text
    assert text.startswith(table.BEGIN) and text.endswith(table.END)
    assert "not measured" in table.section([], about)


def test_a_soak_finds_no_wrong_answer() -> None:
    command = [sys.executable, str(SCRIPTS / "bench_batching.py"), "soak", "--requests", "40", "--clients", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    figures = json.loads(done.stdout)
    assert figures["wrong"] == figures["leaked"] == figures["refused"] == 0
    assert sum(figures[fate] for fate in soak.FATES) == 40 and figures["growth"] < 1
    assert table.soak_line([figures])[0].startswith("Soak: 40 requests in ")


@pytest.mark.parametrize("table, least", [(name, 1.6 if name.startswith("fast") else 2) for name in expected.COSTS])
def test_by_what_steps_cost_copies_come_as_much_faster_as_is_the_goal_and_talk_no_slower(
    table: str, least: float
) -> None:
    encode, costs = load_tokenizer(demo.folder(), "v2").encode, expected.COSTS[table]
    assert statistics.geometric_mean(expected.gains(COPIES.values(), encode, costs)) >= least
    assert min(expected.gains(TALKS.values(), encode, costs)) >= 0.98
    code = [texts.TALKS["code"]("", each) for each in texts.methods()[::40]]  # which repeats itself, but not for long
    assert statistics.geometric_mean(expected.gains(code, encode, costs)) >= 0.98
