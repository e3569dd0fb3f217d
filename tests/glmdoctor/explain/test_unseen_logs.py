"""Logs that no signature was written for: collected from public reports before they were first measured.

The tuning half was looked at afterwards, the held-out half never; docs/explain.md tells how, and the figures.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from score_explain import HALVES, HARMLESS, Log, Score, read_logs, score

from glmdoctor.knowledge import problems

LOGS = read_logs(Path(__file__).with_name("unseen.jsonl"))


@pytest.fixture(scope="module")
def held_out() -> Score:
    return score(log for log in LOGS if log.half == "held-out")


def test_the_right_problem_comes_first_on_the_held_out_half(held_out: Score) -> None:
    assert held_out.first >= 0.85, f"{held_out.right} of {held_out.faulty}"


def test_healthy_and_unrelated_texts_of_both_halves_give_no_match(held_out: Score) -> None:
    tuning = score(log for log in LOGS if log.half == "tuning" and log.problem in HARMLESS)
    assert len(held_out.alarms) + len(tuning.alarms) <= 0.03 * (held_out.harmless + tuning.harmless)


def test_the_collection_is_what_its_page_says() -> None:
    labels = Counter(log.problem for log in LOGS)
    assert sum(labels.values()) - sum(labels[h] for h in HARMLESS) >= 120
    assert sum(labels[h] for h in HARMLESS) >= 60
    assert set(labels) - set(HARMLESS) <= set(problems())
    assert {log.half for log in LOGS} == set(HALVES) and len({log.id for log in LOGS}) == len(LOGS)


def test_a_wrong_answer_and_a_false_alarm_are_counted() -> None:
    oom = "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
    logs = [
        Log("a", "cuda-oom", "tuning", (), oom),
        Log("b", "ram-oom", "tuning", ("cuda-oom",), oom),
        Log("c", "unrelated", "tuning", (), oom),
        Log("d", "none", "tuning", (), "all is well"),
    ]
    got = score(logs)
    assert (got.right, got.fitting, got.faulty, got.harmless) == (1, 2, 2, 2)
    assert set(got.wrong) == {"b"} and set(got.alarms) == {"c"} and got.first == got.alarm_rate == 0.5
