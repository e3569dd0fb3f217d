"""An answer does not depend on who else asks: to the bit what it is alone, whoever comes, leaves or has been there."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from crowds import Asked, alone, compare, crowd, served
from golden_cases import GOLDEN

from glmcore.engine import graph, ways
from glmcore.engine.batch.answer import Piece
from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampling
from glmcore.engine.ways import graph as graph_way
from glmcore.kernels.load import PRECISIONS, load_kernel
from glmcore.layout import piece_names
from glmcore.models.prefix import Prefix
from glmcore.place.loader import load_model
from glmcore.place.multi_devices import place_model

CASES = ["v1/int4", "v2/int8", "v3/int4", "glm4/int8"]
FLOATS = ["v1/base", "v2/base", "v3/rope-ratio", "glm4/base"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_answers_of_the_native_step_are_what_they_are_alone(case: str, precision: str) -> None:
    kernel = load_kernel(threads=1, precision=precision)
    model = load_model(GOLDEN / case, kernel=kernel)
    reused = compare(model, 1, 16, lambda: setattr(kernel, "threads", 2), count=16)
    assert bool(reused) == model.config.traits.causal


@pytest.mark.parametrize("case", FLOATS)
def test_answers_through_the_modules_are_what_they_are_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmcore.engine.ways.module.CPU_CHUNK", 8)  # of these short prompts, so that some are shared
    model = load_model(GOLDEN / case, dtype="float32")
    reused = sum(compare(model, seed, parallel, count=16) for seed, parallel in ((1, 8), (2, 3)))
    assert bool(reused) == model.config.traits.causal


@pytest.mark.parametrize("case", ["v2/base", "glm4/base"])
def test_answers_of_16_bit_weights_are_what_they_are_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps through the kernel, prompts through the modules."""
    monkeypatch.setattr("glmcore.engine.ways.module.CPU_CHUNK", 8)
    model = load_model(GOLDEN / case, dtype="float32", kernel=load_kernel(threads=2, precision="fast"))
    compare(model, 4, 8, count=10)


@pytest.mark.parametrize("case", ["v1/int8", "glm4/int4"])
def test_answers_behind_a_learnt_prefix_are_what_they_are_alone(case: str) -> None:
    """P-Tuning's keys and values stand before every row, those that come later too."""
    model = load_model(GOLDEN / case, kernel=load_kernel(threads=1, precision="fast"))
    config, drawn = model.config, torch.Generator().manual_seed(3)
    shape = (config.num_layers, config.num_kv_heads, 5, config.head_dim)
    model.prefix = Prefix(torch.randn(shape, generator=drawn), torch.randn(shape, generator=drawn))
    assert bool(compare(model, 5, 8, count=12)) == config.traits.causal


def test_answers_of_a_cache_in_16_bits_are_what_they_are_alone() -> None:
    model = load_model(GOLDEN / "v3/int4", kernel=load_kernel(threads=1, precision="light"))
    assert compare(model, 6, 8, count=12, cache="bfloat16")


def test_answers_of_a_model_on_two_devices_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmcore.engine.ways.module.CPU_CHUNK", 8)
    model = load_model(GOLDEN / "v2/base", dtype="float32")
    names = piece_names(model.config)
    place_model(model, {name: f"cpu:{int(2 * number >= len(names))}" for number, name in enumerate(names)})
    assert model.hops.stages == 2
    assert compare(model, 7, 4, count=10)


@pytest.mark.parametrize("case", ["v1/base", "v2/base"])
def test_a_cards_step_over_all_rows_serves_those_that_come_and_go(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that a card records, computed here without recording; its bits depend on the number of rows."""
    monkeypatch.setattr(graph_way, "GraphStep", graph.StaticStep)
    monkeypatch.setattr(ways, "can_record", lambda model: True)
    monkeypatch.setattr(graph, "LEAST", 4)
    model = load_model(GOLDEN / case, dtype="float32")
    config, chance = model.config, random.Random(9)
    asked = [replace(each, sampling=Sampling(0, 1)) for each in crowd(config, chance, 10)]
    expected = [alone(model, config, each, None) for each in asked]
    loop = Loop(Runner(model, config), Scheduler(4))
    found = served(loop, config, asked, [tokens for tokens, _ in expected], chance)
    assert isinstance(loop.runner.way, ways.GraphWay)
    for (tokens, logits), (whole, all_logits) in zip(found, expected, strict=True):
        assert tokens == whole[: len(tokens)]
        for mine, other in zip(logits, all_logits, strict=False):
            torch.testing.assert_close(mine, other, atol=2e-4, rtol=2e-4)


def test_pieces_come_as_they_are_made_and_the_ending_last() -> None:
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    loop = Loop(Runner(model, model.config), Scheduler(4))
    answers = [Asked([7, 8, 9 + i], 5 + i, Sampling(0, 1), 0, None).answer(model.config) for i in range(6)]
    for answer in answers:
        loop.submit(answer)
    for i, answer in enumerate(answers):
        heard = list(answer)
        assert [piece.token for piece in heard] == answer.sequence.output and all(type(p) is Piece for p in heard)
        assert answer.ending.finish_reason in ("stop", "length") and len(heard) <= 5 + i
    assert loop.idle_within(10)


def test_a_prompt_that_fails_beside_answers_takes_none_of_them_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of both fails as a whole; then each goes by itself."""
    model = load_model(GOLDEN / "v2" / "int4", kernel=load_kernel(threads=1, precision="fast"))
    runner, tried, heard = Runner(model, model.config), [], []
    read = runner.way.read

    def answered(others: int) -> list[int]:
        loop = Loop(runner, Scheduler(4))
        answering = Asked([7, 8, 9], 12, Sampling(0, 1), 0, None).answer(replace(model.config, eos_token_ids=()))
        loop.scheduler.add(answering)
        loop.turn()
        for _ in range(others):
            other = Asked([*range(5, 55)], 3, Sampling(0, 1), 0, None).answer(model.config)
            other.listen(heard.append)
            loop.scheduler.add(other)
        for _ in range(12):
            loop.turn()
        return answering.sequence.output

    def broken(*given: object) -> None:
        tried.append(given)
        raise RuntimeError("broken")

    whole = answered(0)
    monkeypatch.setattr(runner.way, "follow_beside", broken)
    monkeypatch.setattr(runner.way, "read", lambda *given: (broken if given[2] == 50 else read)(*given))
    assert answered(1) == whole and len(whole) == 12
    assert len(tried) == 2 and [type(each) for each in heard] == [RuntimeError]
