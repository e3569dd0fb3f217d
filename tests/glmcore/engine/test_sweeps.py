"""A prompt that sees itself both ways, read a part of a layer at a time: in what order, and to which bits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from golden_cases import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED
from glmcore.engine.native import NativeModel, Pass
from glmcore.engine.sweeps import LEAST, MOST, Course
from glmcore.engine.ways import NativeWay, Rows
from glmcore.kernels import abi
from glmcore.kernels.load import PRECISIONS, load_kernel
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState
from glmcore.models.prefix import Prefix
from glmcore.place.loader import load_model

NAME, LONG = "chatglm-6b", 300
KEPT = [*((precision, torch.float32) for precision in PRECISIONS), ("fast", torch.bfloat16)]


def way_of(model, rows=1, kept=torch.float32, capacity=LONG + 2) -> NativeWay:
    return NativeWay(NativeModel(model, model.config), Rows(model.config, KVCache(model.config, rows, capacity, kept)))


@pytest.fixture(scope="module")
def small():
    """``small(bits, precision)``: three narrow layers of ChatGLM-6B with random weights."""

    def make(bits: int = 4, precision: str = "fast"):
        config = replace(
            NAMED[NAME], num_layers=3, hidden_size=128, num_heads=4, num_kv_heads=4, head_dim=32, vocab_size=400,
            ffn_hidden_size=300, quantization_bit=bits, gmask_token_id=390, bos_token_id=391, mask_token_id=389,
        )  # fmt: skip
        return random_model(config, torch.float32, kernel=load_kernel(threads=2, precision=precision))

    return make


@pytest.fixture
def few(monkeypatch):
    """Pieces of any number of tokens."""
    monkeypatch.setattr("glmcore.engine.sweeps.LEAST", 1)


def whole_pass(way: NativeWay, prompt: list[int]) -> Pass:
    """One over all of the prompt, whole layers at a time."""
    positions = PositionState(way.config, torch.tensor([prompt]))
    whole = way.native.reading(
        torch.tensor([prompt]), way.rows.cache, 0, 0, positions.prompt()["position_ids"], positions.context[0],
        prompt=len(prompt),
    )  # fmt: skip
    whole.run()
    return whole


def at_once(way: NativeWay, prompt: list[int]) -> torch.Tensor:
    """Logits [V] of such a pass."""
    return whole_pass(way, prompt).logits[0]


def in_pieces(way: NativeWay, prompt: list[int], sizes: Iterator[int]) -> torch.Tensor:
    reading = way.begin(0, prompt)
    while (logits := reading.advance(next(sizes))) is None:
        assert reading.left
    return logits


def stored(way: NativeWay, count: int) -> torch.Tensor:
    cache = way.rows.cache
    return torch.stack([each[0, :, : count + cache.prefix].float() for each in (*cache.keys, *cache.values)])


def some_of(chance: random.Random, most: int) -> Iterator[int]:
    return (chance.randint(1, most) for _ in itertools.count())


@given(st.integers(1, 700), st.integers(1, 30), st.lists(st.integers(1, 900), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_every_token_goes_through_both_halves_of_every_layer_in_their_order(count, layers, amounts):
    course, gone = Course(count, layers), []
    for tokens in itertools.cycle(amounts):
        before = course.left
        found = course.go_on(tokens)
        work = sum((piece.last - piece.first) * course.costs[piece.half] for piece in found)
        assert found and course.left <= max(0, before - tokens)
        assert work < tokens * course.token + LEAST * max(course.costs.values())
        gone += found
        if not course.left:
            break
    expected = [(layer, half) for layer in range(layers) for half in (abi.STORING, abi.SEEING)]
    assert [key for key, _ in itertools.groupby(gone, key=lambda piece: piece[:2])] == expected
    for _, sweep in itertools.groupby(gone, key=lambda piece: piece[:2]):
        edges = [(piece.first, piece.last) for piece in sweep]
        assert edges[0][0] == 0 and edges[-1][1] == count
        assert all(one[1] == other[0] for one, other in itertools.pairwise(edges))
        assert all(LEAST <= last - first <= MOST or last == count for first, last in edges)
    assert Course(count, layers).go_on(count)[-1].last == count  # all at once


@pytest.mark.parametrize(("precision", "kept"), KEPT)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("length", [14, LONG])  # of which `fast` keeps what it keeps of answers, and less
def test_a_prompt_is_the_same_however_it_is_cut(small, few, bits, length, precision, kept):
    model, chance = small(bits, precision), random.Random(bits)
    prompt = prompt_ids(model.config, length)
    whole = way_of(model, kept=kept)
    expected = at_once(whole, prompt)
    for most in (2, 60):
        way = way_of(model, kept=kept)
        assert torch.equal(in_pieces(way, prompt, some_of(chance, most)), expected)
        assert torch.equal(stored(way, length), stored(whole, length))


@pytest.mark.parametrize("case", ["v1/int4", "v1/int8"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_prompts_are_the_same_behind_a_prefix_too(case, precision, few):
    model = load_model(GOLDEN / case, kernel=load_kernel(threads=2, precision=precision))
    config, drawn = model.config, torch.Generator().manual_seed(3)
    prompt = [*range(20, 90), config.gmask_token_id, config.bos_token_id, 33, 34]  # what follows <sop> looks back alone
    for prefix in (0, 5):
        if prefix:
            shape = (config.num_layers, config.num_kv_heads, prefix, config.head_dim)
            model.prefix = Prefix(torch.randn(shape, generator=drawn), torch.randn(shape, generator=drawn))
        whole = way_of(model)
        whole.put_prefix()
        expected = at_once(whole, prompt)
        assert torch.equal(in_pieces(way_of(model), prompt, itertools.repeat(1)), expected)


def test_what_is_given_up_within_a_layer_leaves_nothing_behind(small, few):
    """Another row's answer goes on meanwhile, and the cache grows."""
    model = small()
    long, other = prompt_ids(model.config, LONG), prompt_ids(model.config, 40, seed=3)
    way, alone = way_of(model, rows=2, capacity=64), way_of(model)
    expected = [alone.prefill({0: other})[0], *(alone.decode({0: token})[0].clone() for token in (7, 8, 9))]
    found = [way.prefill({1: other})[0]]
    for given_up, token in ((3, 7), (57, 8), (121, 9)):
        reading = way.begin(0, long)
        assert reading.advance(given_up) is None and 0 < reading.left < LONG
        found.append(way.decode({1: token})[0].clone())
    assert all(map(torch.equal, found, expected))
    assert torch.equal(in_pieces(way, other, itertools.repeat(5)), expected[0])
    assert torch.equal(in_pieces(way, long, itertools.repeat(50)), at_once(way_of(model), long))


def test_a_cache_that_grows_within_a_layer_keeps_what_was_stored(small, few):
    model = small()
    long, longer = prompt_ids(model.config, LONG), prompt_ids(model.config, 2 * LONG, seed=5)
    way = way_of(model, capacity=LONG)
    reading = way.begin(0, long)
    reading.advance(40)
    moved = way.rows.cache.keys[0].data_ptr()
    second = way.begin(1, longer)
    assert way.rows.cache.keys[0].data_ptr() != moved
    found = [way._whole(each) for each in (reading, second)]
    assert torch.equal(found[0], at_once(way_of(model), long))
    assert torch.equal(found[1], at_once(way_of(model, capacity=2 * LONG), longer))


def test_a_long_prompt_takes_no_more_workspace_than_a_piece(small):
    model = small()
    sizes = []
    for length in (MOST, 1000):
        way = way_of(model, capacity=length)
        way.prefill({0: prompt_ids(model.config, length)})
        sizes.append(len(way.native.memory))
    assert sizes[1] < 1.2 * sizes[0]  # the attention's scores may take more, of more keys


def test_the_states_are_those_of_the_whole(small, few):
    model = small()
    prompt = prompt_ids(model.config, 50)
    reading = way_of(model).begin(0, prompt)
    reading.states = []
    while reading.advance(3) is None:
        assert not reading.states
    assert torch.equal(torch.cat(reading.states), whole_pass(way_of(model), prompt).hidden)
