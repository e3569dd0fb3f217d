"""Who is sent away comes back when there is a place: the waits that are told, on a clock of the test's."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.server.waits import LONGEST, SHORTEST, Waits


def test_the_wait_is_the_rest_the_line_and_the_promised() -> None:
    waits = Waits()
    for seconds in (4.0, 6.0):
        waits.note(seconds)
    assert waits.promise(now=100, waiting=3, running_s=2) == 3 + 3 * 5
    assert waits.promise(now=100, waiting=3, running_s=2) == 3 + 3 * 5 + 5
    assert waits.promise(now=118.5, waiting=0, running_s=9) == 4.5 + 5  # after the second
    told = {waits.promise(now=1000, waiting=50, running_s=0) for _ in range(20)}
    assert len(told) == 20 and LONGEST / 4 <= min(told) <= max(told) <= LONGEST


def test_of_several_at_once_one_ends_sooner() -> None:
    waits = Waits(parallel=4)
    waits.note(8.0)
    assert waits.promise(now=0, waiting=6, running_s=3) == 5 + 6 * 2
    assert waits.promise(now=0, waiting=6, running_s=3) == 5 + 6 * 2 + 2


def test_what_was_never_measured_takes_as_long_as_the_answer_that_is_under_way() -> None:
    assert Waits().promise(now=0, waiting=2, running_s=7) == 7 + 2 * 14
    assert Waits().promise(now=0, waiting=0, running_s=0) == 1
    waits = Waits()
    waits.note(0.01)
    assert waits.promise(now=0, waiting=0, running_s=5) == SHORTEST


@given(
    queue=st.integers(4, 16),
    mean=st.floats(0.1, 1.0),
    measured=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_two_retries_answer_everybody(queue: int, mean: float, measured: bool, seed: int) -> None:
    assert answered(32, queue, mean, random.Random(seed), measured) == 32


def test_a_gap_that_holds_an_answer_is_told() -> None:
    """Who was promised a late place does not send all who come after behind it."""
    waits = Waits()
    waits.note(5)
    assert waits.promise(now=0, waiting=4, running_s=0) == 25
    assert waits.promise(now=6, waiting=0, running_s=5) == pytest.approx(0.001)  # 19 s are free until then
    assert waits.promise(now=6, waiting=0, running_s=5) == pytest.approx(5, abs=0.01)


def test_a_short_line_of_slow_answers_answers_most() -> None:
    """32 clients, 4 places, 5 s: the last of 160 s of work is beyond two waits of 60 s."""
    counts = [answered(32, 4, 5.0, random.Random(seed), True) for seed in range(50)]
    assert sum(counts) / len(counts) > 25


def answered(clients: int, queue: int, mean: float, chance: random.Random, measured: bool) -> int:
    """How many of ``clients`` that come within half a second and try again twice get an answer, durations ± 30 %."""
    waits = Waits()
    if measured:
        waits.note(mean)
    events = [(chance.random() / 2, number, 2) for number in range(clients)]
    heapq.heapify(events)
    ends: list[tuple[float, float]] = []  # of what is in the line: begin and end
    done = 0
    while events:
        now, number, retries = heapq.heappop(events)
        for begin, end in [job for job in ends if job[1] <= now]:
            waits.note(end - begin)
            ends.remove((begin, end))
        if len(ends) <= queue:
            begin = ends[-1][1] if ends else now
            ends.append((begin, begin + mean * chance.uniform(0.7, 1.3)))
            done += 1
        elif retries:
            running_s = now - ends[0][0]
            heapq.heappush(events, (now + waits.promise(now, len(ends) - 1, running_s), number, retries - 1))
    return done
