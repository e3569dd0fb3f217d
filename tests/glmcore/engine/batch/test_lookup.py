"""Guesses from the text itself: what they are, what is learnt of them, and that they are tried only where they pay."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.engine.batch.lookup import CHANCES, GRAM, MOST, Lookup
from glmcore.engine.batch.worth import StepCosts, worth

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "scripts"))
from batching.expected import gain

VNNI = StepCosts({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.8, 16: 3.0})
FAST = StepCosts({1: 1.0, 2: 1.63, 4: 2.4, 8: 4.15, 16: 8.0})
FLAT = StepCosts({1: 1.0, 16: 16.0})


def guessed(tokens: list[int], most: int) -> list[int]:
    return Lookup(tokens).guess(most)[0]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, MOST))
def test_a_guess_is_what_followed_a_token_like_the_last_one(tokens: list[int], most: int) -> None:
    found, chances = Lookup(tokens).guess(most)
    ends = range(GRAM, len(tokens))
    if any(tokens[end - GRAM : end] == tokens[len(tokens) - GRAM :] for end in ends):
        assert found
    if found:
        assert len(found) == len(chances) == most and all(0 < chance < 1 for chance in chances)
        places = [place for place in range(1, len(tokens)) if tokens[place - 1] == tokens[-1]]
        assert found in [[*tokens[place:], *found][:most] for place in places]


def test_it_stays_with_what_it_repeats_and_begins_with_what_stood_there_last() -> None:
    assert guessed([1, 2, 3, 4, 5, 70, 8, 3, 4, 5, 80, 1, 2, 3, 4, 5], 2) == [70, 8]
    assert guessed([3, 4, 5, 60, 3, 4, 5, 80, 9, 3, 4, 5], 1) == [80]
    assert guessed([7, 8, 9, 7, 8, 9], 8) == [7, 8, 9, 7, 8, 9, 7, 8]
    assert guessed([1, 2, 3], 4) == [] == guessed([], 4)


@pytest.mark.parametrize("instead", [[], [50], [50, 51], [8], [50, 51, 52, 9]])
def test_a_copy_goes_on_behind_what_it_changes(instead: list[int]) -> None:
    """Left out, another, more, fewer: one token like those behind the change is enough."""
    source = list(range(1, 30))
    assert guessed([*source, 40, *range(1, 8), *instead, 10], 3) == [11, 12, 13]


def test_after_a_short_likeness_nothing_is_sought() -> None:
    assert guessed([*range(1, 30), 40, 5, 6, 7, 50, 10], 3) == []


def test_what_guesses_are_worth_is_seen_of_each_token_whether_it_was_tried_or_not() -> None:
    lookup = Lookup([1, 2, 3, 4] * 5)
    for token in [1, 2, 3, 4] * 10:
        lookup.push(token)
    assert lookup.guess(1)[1][0] > CHANCES[-1]
    wrong = Lookup([])
    for number in range(200):
        for token in (1, 2, 3, 100 + number):
            wrong.push(token)
    wrong.push(1), wrong.push(2), wrong.push(3)
    assert wrong.guess(1)[1][0] < 0.1


@given(st.lists(st.lists(st.floats(0, 1), max_size=15), min_size=1, max_size=16), st.integers(-3, 15))
def test_drafts_are_made_only_where_more_tokens_come_for_the_time(guesses: list[list[float]], most: int) -> None:
    answers = len(guesses)
    for cost in (VNNI, FAST, FLAT):
        counts = worth(cost, guesses, most)
        assert all(0 <= count <= len(chances) for count, chances in zip(counts, guesses, strict=True))
        assert sum(counts) <= max(0, most)
        expected = answers + sum(power for count, chances in zip(counts, guesses, strict=True)
                                 for power in powers(chances[:count]))  # fmt: skip
        assert not any(counts) or expected / cost(answers + sum(counts)) > answers / cost(answers)
    assert not any(worth(FLAT, guesses, most))  # a row more costs what a step more does


def powers(chances: list[float]) -> list[float]:
    made, power = [], 1.0
    for chance in chances:
        power *= chance
        made.append(power)
    return made


def test_the_likeliest_tokens_of_all_answers_go_first() -> None:
    assert worth(VNNI, [[0.5, 0.9], [0.95, 0.9, 0.1], []], 3) == [1, 2, 0]
    assert worth(VNNI, [[1.0] * 5, [0.9] * 5], 5) == [5, 0]


def test_a_sure_guess_is_long_and_a_poor_one_none() -> None:
    assert worth(VNNI, [[0.97] * 15], 15)[0] > 10
    assert 1 <= worth(VNNI, [[0.5] * 15], 15)[0] <= 4
    assert worth(VNNI, [[0.05] * 15], 15) == [0]
    assert worth(FAST, [[1.0]], 15) == [1] and worth(FAST, [[0.5]], 15) == [0]


@pytest.mark.parametrize("cost, least", [(FAST, 1.5), (VNNI, 3.0)])
def test_a_copy_with_a_change_in_every_twelve_tokens_comes_faster(cost: StepCosts, least: float) -> None:
    source = [random.Random(1).randrange(3, 300) for _ in range(200)]
    copy = [token if place % 12 else 1 for place, token in enumerate(source)]
    assert gain([*source, 2], copy, cost) > least


def test_text_that_only_seems_to_repeat_loses_next_to_nothing() -> None:
    """Its last three tokens have mostly been there before, and say nothing of the next one."""
    chance = random.Random(1)
    text = [chance.randrange(8) for _ in range(4000)]
    assert gain(text[:50], text[50:], FAST) > 0.99


def test_costs_between_what_was_measured_lie_between() -> None:
    assert VNNI(1) == 1.0 and VNNI(3) == pytest.approx(1.2) and VNNI(12) == pytest.approx(2.4)
    assert VNNI(16) == 3.0 and VNNI(32) == 6.0


@given(st.sampled_from([0.2, 0.7, 3.0]), st.lists(st.sampled_from([1, 2, 3, 4, 6, 8, 16]), max_size=60))
def test_what_slows_all_steps_alike_changes_no_choice(pace: float, rows: list[int]) -> None:
    cost = StepCosts({1: 1.0, 2: 1.63, 4: 2.4, 8: 4.15, 16: 8.0})
    for each in [*[1] * 30, *rows]:  # after a while at that pace
        cost.note(each, pace * FAST(each))
    assert cost(4) / cost(1) == pytest.approx(FAST(4) / FAST(1), rel=0.25)


@pytest.mark.parametrize("wrong", [{1: 1.0, 16: 1.5}, {1: 1.0, 16: 16.0}, {1: 0.5, 2: 1.6, 4: 2.4, 8: 4.0, 16: 8.0}])
def test_a_wrong_measurement_heals(wrong: dict[int, float]) -> None:
    cost = StepCosts(wrong)
    for number in range(400):
        rows = (1, 1, 2, 4, 8)[number % 5]
        cost.note(rows, 0.3 * FAST(rows))
    for rows in (2, 4, 8) if len(wrong) > 2 else ():
        assert cost(rows) / cost(1) == pytest.approx(FAST(rows) / FAST(1), rel=0.05)
    assert worth(cost, [[0.35] * 3], 3) == [0] and worth(cost, [[0.99] * 7], 7)[0] >= 2
