"""What earlier prompts leave: bounded, the last used kept longest, nothing twice, and to the bit what was read."""

from __future__ import annotations

import weakref

import pytest
import torch
from golden_cases import GOLDEN

from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.prefixes import Prefixes
from glmcore.engine.batch.scheduler import Place, Scheduler
from glmcore.engine.batch.seats import Seats
from glmcore.engine.runner import Runner
from glmcore.kernels.load import load_kernel
from glmcore.place.loader import load_model

TOKEN_BYTES = 3 * 2 * 2 * 16 * 4  # layers, keys and values, groups, head size, float32


@pytest.fixture
def way():
    model = load_model(GOLDEN / "v3/int4", kernel=load_kernel(threads=1, precision="light"))
    return Runner(model, model.config).way


def ask(seats: Seats, prompt: list[int]) -> tuple[Place, int]:
    """A prompt read into a row of its own, and how much of it was found."""
    place = Place(len(prompt), len(prompt) + 1)
    row, found = seats.take(place, prompt)
    seats.way._whole(seats.way.begin(row, prompt, found))
    return place, found


def talk(seats: Seats, *prompts: list[int]) -> list[int]:
    """One after the other; the tokens that were found of each."""
    found = []
    for prompt in prompts:
        place, count = ask(seats, prompt)
        seats.leave(place)
        found.append(count)
    return found


def texts(count: int, length: int = 40) -> list[list[int]]:
    return [[10 + number, *range(20, 20 + length - 1)] for number in range(count)]


def test_several_conversations_keep_what_was_read(way) -> None:
    seats, conversations = Seats(way, Prefixes(10**6)), texts(5)
    assert talk(seats, *conversations) == [0] * 5
    longer = [[*prompt, 7, 8, 9] for prompt in conversations]
    assert talk(seats, *longer) == [40] * 5
    assert len(way.rows) == 1 and seats.reused == 200


def test_bytes_are_bounded_and_the_last_used_stays(way) -> None:
    prefixes = Prefixes(150 * TOKEN_BYTES)
    seats, conversations = Seats(way, prefixes), texts(6)
    talk(seats, *conversations, [5] * 20)
    assert [kept.tokens for kept in prefixes.kept] == conversations[3:] and prefixes.nbytes == 120 * TOKEN_BYTES
    assert talk(seats, [*conversations[3], 7], [6] * 20, [7] * 40, [8] * 20)[0] == 40
    kept = [kept.tokens for kept in prefixes.kept]
    assert prefixes.nbytes <= prefixes.most_bytes
    assert [*conversations[3], 7] in kept and conversations[4] not in kept
    assert talk(Seats(way, Prefixes(0)), *conversations[:2], conversations[0]) == [0, 0, 0]


def test_nothing_is_kept_twice(way) -> None:
    seats, [prompt] = Seats(way, Prefixes(10**6)), texts(1)
    talk(seats, prompt, [5] * 20, [*prompt, 1, 2], [5] * 20, prompt, [6] * 30)
    kept = [tuple(each.tokens) for each in seats.prefixes.kept]
    assert sorted(kept) == sorted({(*prompt, 1, 2), (5,) * 20})


def test_a_row_that_is_being_answered_lends_its_beginning(way) -> None:
    seats, system = Seats(way, Prefixes(0)), list(range(30, 80))
    first, _ = ask(seats, [*system, 1, 2])
    second, found = ask(seats, [*system, 3])
    assert found == 50 and seats.row_of(first) != seats.row_of(second)
    for tensor in (*way.rows.cache.keys, *way.rows.cache.values):
        assert torch.equal(tensor[0, :, :50], tensor[1, :, :50]) and tensor[0, :, :50].any()
    logits = way.follow({seats.row_of(second): [4]})
    alone = Runner(way.model, way.config)
    alone.prefill([*system, 3])
    assert torch.equal(logits[0], alone.decode(4))


def test_memory_is_given_back_where_nobody_asks(way) -> None:
    seats = Seats(way, Prefixes(10**6))
    places = [ask(seats, prompt)[0] for prompt in texts(4)]
    assert len(way.rows) == 4
    for place in places:
        seats.leave(place)
    many = [weakref.ref(tensor) for tensor in (*way.rows.cache.keys, *way.rows.cache.values)]
    seats.compact()
    assert not any(tensor() is not None for tensor in many)
    assert len(way.rows) == 1 and way.rows.cache.keys[0].shape[0] == 1
    assert talk(seats, *[[*prompt, 9] for prompt in texts(4)]) == [40] * 4


def test_a_row_that_there_is_no_memory_for_is_nobodys(way, monkeypatch: pytest.MonkeyPatch) -> None:
    seats = Seats(way, Prefixes(10**6))
    ask(seats, [5, 6, 7])

    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(type(way.rows.cache), "_moved", full)
        place = Place(3, 4)
        with pytest.raises(MemoryError):
            seats.take(place, [8, 9, 10])
        seats.empty(place)
        seats.leave(place)
    assert len(way.rows) == len(seats.taken) == 1 and not seats.free
    assert ask(seats, [8, 9, 10])[1] == 0 and len(way.rows) == 2


@pytest.mark.parametrize("precision", ["fast", "light"])
def test_an_answer_is_read_again_where_a_prompt_would_keep_less_of_it(precision: str) -> None:
    """While nobody asks; whoever then goes on with the talk finds all of it, with the bits of a prompt."""
    model = load_model(GOLDEN / "v3/int4", kernel=load_kernel(threads=1, precision=precision))
    loop = Loop(Runner(model, model.config), Scheduler(2))
    way, prompt = loop.runner.way, list(range(20, 50))
    place, _ = ask(loop.seats, prompt)
    for token in range(60, 85):
        way.decode({loop.seats.row_of(place): token})
    loop.seats.leave(place)
    talk = [*prompt, *range(60, 85), 7]
    assert way.reusable(0, talk) == (30 if precision == "fast" else 55)
    assert [loop.freshen() for _ in range(3)] == ([True, True, False] if precision == "fast" else [False] * 3)
    assert way.reusable(0, talk) == 55
    afresh = Runner(model, model.config)
    afresh.prefill(talk)
    for mine, other in zip(way.rows.cache.keys, afresh.cache.keys, strict=True):
        assert torch.equal(mine[0, :, :55], other[0, :, :55])
