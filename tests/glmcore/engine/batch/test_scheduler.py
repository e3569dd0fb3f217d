"""Who is served next: fair, nobody for ever, never more than allowed. No model, no clock."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from glmcore.engine.batch.costs import LEAST, MOST, Costs
from glmcore.engine.batch.scheduler import Place, Scheduler

MEMORY = 600  # tokens of all rows


def fits(rows: int, tokens: int) -> bool:
    return rows * tokens <= MEMORY


def read(scheduler: Scheduler[Place], piece: int) -> Place | None:
    place = scheduler.reader()
    if place is not None:
        scheduler.read(place, max(0, place.left - piece))
    return place


asked = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 60), st.integers(0, 40)), min_size=1, max_size=25)


@given(asked=asked, parallel=st.integers(1, 6), piece=st.integers(1, 64), seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_everybody_is_answered_in_order_within_the_limits(
    asked: list[tuple[int, int, int]], parallel: int, piece: int, seed: int
) -> None:
    """Answers that come when they like, some of which are given up."""
    scheduler, chance = Scheduler[Place](parallel, fits), random.Random(seed)
    places = [(turn, Place(prompt, prompt + answer)) for prompt, answer, turn in asked]
    coming = sorted(places, key=lambda each: each[0])
    produced = {place: 0 for _, place in coming}
    order, begun, ended = [place for _, place in coming], [], []
    for turn in range(100_000):
        while coming and coming[0][0] <= turn:
            scheduler.add(coming.pop(0)[1])
        while place := scheduler.admit():
            begun.append(place)
        active = scheduler.under_way
        assert len(active) <= parallel
        assert len(active) < 2 or fits(len(active), max(place.most_tokens for place in active))
        read(scheduler, piece)
        for place in list(scheduler.answering):
            produced[place] += 1
            if produced[place] == place.most_tokens - place.prompt_tokens or chance.random() < 0.01:
                scheduler.remove(place)
                ended.append(place)
        if not scheduler and not coming:
            break
    assert set(ended) == set(order) and begun == order


@given(prompts=st.lists(st.integers(1, 500), min_size=1, max_size=12), piece=st.integers(1, 64))
def test_the_longest_waiting_prompt_gets_half_of_the_pieces(prompts: list[int], piece: int) -> None:
    scheduler = Scheduler[Place](len(prompts))
    for tokens in prompts:
        scheduler.add(Place(tokens, tokens + 1))
    while scheduler.admit():
        pass
    while scheduler.reading:
        oldest, pieces = scheduler.reading[0], 0
        own = -(-oldest.left // piece)
        while oldest in scheduler.reading:
            read(scheduler, piece)
            pieces += 1
        assert pieces <= 2 * own


@given(long=st.integers(200, 5000), read_before=st.integers(0, 60), short=st.integers(1, 64))
def test_a_short_prompt_is_read_within_two_pieces_beside_a_long_one(long: int, read_before: int, short: int) -> None:
    scheduler = Scheduler[Place](2)
    scheduler.add(Place(long, long + 1))
    scheduler.admit()
    for _ in range(read_before):
        read(scheduler, 64)
    place = Place(short, short + 1)
    scheduler.add(place)
    scheduler.admit()
    read(scheduler, 64)
    read(scheduler, 64)
    assert place not in scheduler.reading


def test_who_begins_alike_waits_until_that_is_read_and_no_longer() -> None:
    scheduler = Scheduler[Place](3)
    first, second, third = Place(100, 110), Place(90, 100), Place(90, 100)
    for place in (first, second, third):
        scheduler.add(place)
        scheduler.admit()
    second.follow(first, 80)
    third.follow(second, 70)
    assert [read(scheduler, 40) for _ in range(2)] == [first, first]
    assert read(scheduler, 40) in (first, second)  # 80 of them stand there now
    scheduler.remove(second)
    assert {read(scheduler, 40) for _ in range(3)} >= {third}


def test_nobody_overtakes_whoever_needs_much_memory() -> None:
    scheduler = Scheduler[Place](4, fits)
    running, large, small = Place(10, 200), Place(300, 500), Place(10, 20)
    for place in (running, large, small):
        scheduler.add(place)
    assert scheduler.admit() is running and scheduler.admit() is None
    scheduler.remove(running)
    assert scheduler.admit() is large and scheduler.admit() is None
    scheduler.remove(large)
    assert scheduler.admit() is small


@given(fixed=st.floats(0.0, 0.2), each=st.floats(1e-4, 0.05), step=st.floats(1e-3, 0.3), allowed=st.floats(0.05, 2))
def test_pieces_come_to_take_the_time_that_they_may(fixed: float, each: float, step: float, allowed: float) -> None:
    """A piece costs the reading of the weights once, and something for each token; neither is known beforehand."""
    costs = Costs()
    for _ in range(60):
        tokens = costs.tokens_beside(3, allowed)
        assert LEAST <= tokens <= MOST
        costs.note_reading(tokens, fixed + each * tokens)
        costs.note_step(3, step)
    took = step + fixed + each * tokens
    assert took <= allowed * 1.05 or tokens == LEAST
    assert took >= allowed * 0.8 - each or tokens in (LEAST, MOST)
