"""Drafts from the text itself: what they are, and that they are made only where they pay."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from glmcore.engine.batch.lookup import GRAMS, PAUSE, Lookup, StepCosts, worth

NEEDED = min(GRAMS)
VNNI = StepCosts({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.8, 16: 3.0})
FLAT = StepCosts({1: 1.0, 16: 16.0})


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 15))
def test_a_draft_is_what_followed_when_the_last_tokens_stood_there_before(tokens: list[int], most: int) -> None:
    drafted = Lookup(tokens).draft(most)
    places = [
        end for end in range(NEEDED, len(tokens)) if tokens[end - NEEDED : end] == tokens[len(tokens) - NEEDED :]
    ]
    assert bool(drafted) == bool(places)
    if drafted:
        assert len(drafted) == most
        endless = [[*tokens[end:], *drafted][: len(drafted)] for end in places]
        assert drafted in endless


def test_a_longer_match_counts_more_and_a_later_one() -> None:
    assert Lookup([1, 2, 3, 4, 5, 70, 8, 3, 4, 5, 80, 1, 2, 3, 4, 5]).draft(2) == [70, 8]
    assert Lookup([3, 4, 5, 60, 3, 4, 5, 80, 9, 3, 4, 5]).draft(1) == [80]
    assert Lookup([7, 8, 9, 7, 8, 9]).draft(8) == [7, 8, 9, 7, 8, 9, 7, 8]
    assert Lookup([1, 2, 3]).draft(4) == [] == Lookup([]).draft(4)


@given(st.floats(0, 1), st.integers(1, 16), st.integers(1, 15))
def test_drafts_are_made_only_where_more_tokens_come_for_the_time(chance: float, answers: int, most: int) -> None:
    for cost in (VNNI, FLAT):
        count = worth(cost, answers, answers, chance, most)
        expected = answers + sum(chance**i for i in range(1, count + 1))
        assert 0 <= count <= most
        assert count == 0 or expected / cost(answers + count) > answers / cost(answers)
    assert worth(FLAT, answers, answers, chance, most) == 0  # a row more costs what a step more does


def test_a_sure_guess_is_long_and_a_poor_one_none() -> None:
    assert worth(VNNI, 1, 1, 0.97, 15) > 10
    assert 1 <= worth(VNNI, 1, 1, 0.5, 15) <= 4
    assert worth(VNNI, 1, 1, 0.05, 15) == 0


def test_what_does_not_pay_is_left_for_a_while() -> None:
    lookup = Lookup([])
    lookup.give_up()
    for token in range(PAUSE):
        assert lookup.pause
        lookup.push(token)
    assert not lookup.pause


def test_text_without_repetition_loses_next_to_nothing() -> None:
    """Guesses that are always wrong, at the costs of a processor with VNNI, as the loop makes them."""
    lookup, chance, seconds, steps = Lookup([]), random.Random(1), 0.0, 4000
    for _ in range(steps):
        lookup.push(chance.randrange(8))  # whose last three tokens have mostly been there before
        found = [] if lookup.pause else lookup.draft(15)
        count = worth(VNNI, 1, 1, lookup.chance, len(found)) if found else 0
        if found and not count:
            lookup.give_up()
        if count:
            lookup.note(0, count)
        seconds += VNNI(1 + count)
    assert seconds < steps * 1.02


def test_costs_between_what_was_measured_lie_between() -> None:
    assert VNNI(1) == 1.0 and VNNI(3) == 1.2000000000000002 and VNNI(16) == 3.0 and VNNI(32) == 6.0
