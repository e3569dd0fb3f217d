"""An answer does not depend on who else asks: to the bit what it is alone, whoever comes, leaves or has been there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import torch
from golden_cases import GOLDEN

from glmcore.engine import graph, ways
from glmcore.engine.batch.answer import Answer, Item, Piece
from glmcore.engine.batch.lookup import Lookup, StepCosts
from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence
from glmcore.engine.ways import graph as graph_way
from glmcore.kernels.load import PRECISIONS, load_kernel
from glmcore.layout import piece_names
from glmcore.models.prefix import Prefix
from glmcore.place.loader import load_model
from glmcore.place.multi_devices import place_model

CASES = ["v1/int4", "v2/int8", "v3/int4", "glm4/int8"]
FLOATS = ["v1/base", "v2/base", "v3/rope-ratio", "glm4/base"]
LONGEST = 110


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Mute:
    """In place of an answer's text: these checkpoints have no tokenizer."""

    stopped = False

    def push(self, token: int) -> str:
        return ""

    flush = lambda self: ""  # noqa: E731


class Watched(Sampler):
    """Remembers all logits that it was given."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.seen: list[torch.Tensor] = []

    def __call__(self, logits: torch.Tensor) -> int:
        self.seen.append(logits.clone())
        return super().__call__(logits)


@dataclass
class Asked:
    """What a client asks, when it comes, and after how many turns more it leaves."""

    prompt: list[int]
    tokens: int
    sampling: Sampling
    comes: int
    leaves: int | None
    sampler: Watched = field(init=False)

    def answer(self, config) -> Answer:
        self.sampler = Watched(self.sampling)
        sequence = Sequence(tuple(self.prompt), self.tokens, frozenset(config.eos_token_ids))
        return Answer(sequence, self.sampler, Mute())


def no_error(item: Item) -> None:
    if isinstance(item, Exception):
        raise item


def crowd(config, chance: random.Random, count: int) -> list[Asked]:
    """Prompts of all lengths, many of which begin alike or go on where another one's answer might have."""
    known: list[list[int]] = [[]]
    asked = []
    for _ in range(count):
        begin = chance.choice(known)[: chance.randint(0, LONGEST)]
        own = [chance.randrange(5, config.vocab_size - 20) for _ in range(chance.choice((1, 3, 9, 30, 70)))]
        prompt = (begin + own)[-LONGEST:]
        known.append(prompt)
        if not config.traits.causal:
            prompt = [*prompt[:-2], config.gmask_token_id, config.bos_token_id]
        sampling = Sampling(0, 1) if chance.random() < 0.5 else Sampling(1.0, 0.9, chance.randrange(1000))
        leaves = chance.randint(0, 12) if chance.random() < 0.25 else None
        asked.append(Asked(prompt, chance.randint(1, 16), sampling, chance.randint(0, 30), leaves))
    return asked


class Knowing(Lookup):
    """Drafts what the answer will be, and often something wrong: in place of a text that repeats itself."""

    def __init__(self, each: Asked, whole: list[int], chance: random.Random) -> None:
        super().__init__([*each.prompt, *whole[:1]])
        self.prompt, self.whole, self.dice = len(each.prompt), whole, chance

    def draft(self, most: int) -> list[int]:
        drafted = self.whole[len(self.tokens) - self.prompt :][: min(most, self.dice.randint(0, 8))]
        return [token if self.dice.random() < 0.8 else token // 2 for token in drafted]


def served(
    loop: Loop, config, asked: list[Asked], wholes: list[list[int]], chance: random.Random
) -> list[tuple[list[int], list[torch.Tensor]]]:
    """All of them on one model, in turns; pieces of prompts are of any size. Tokens and logits of each."""
    loop.costs.tokens_beside = lambda rows, seconds: chance.randint(1, 50)
    answers = [each.answer(config) for each in asked]
    for each, answer, whole in zip(asked, answers, wholes, strict=True):
        answer.listen(no_error)
        answer.lookup = Knowing(each, whole, chance)
    turn = 0
    while any(answer.ending is None for answer in answers):
        for each, answer in zip(asked, answers, strict=True):
            if each.comes == turn:
                loop.scheduler.add(answer)
            if each.leaves is not None and turn == each.comes + each.leaves:
                answer.cancel()
        loop.runner.way.piece = chance.randint(1, 60)
        loop.turn()
        if chance.random() < 0.3:
            loop.freshen()
        turn += 1
        assert turn < 5000
    assert not loop.scheduler and not loop.seats.taken and not loop._readings
    if loop.runner.way.drafts:  # guesses, right ones and wrong ones
        assert sum(answer.stats.accepted_drafts for answer in answers)
        assert sum(answer.stats.rejected_drafts for answer in answers)
    return [(list(answer.sequence.output), each.sampler.seen) for each, answer in zip(asked, answers, strict=True)]


def alone(model, config, each: Asked, cache: str | None) -> tuple[list[int], list[torch.Tensor]]:
    """Without anybody else, on an empty cache."""
    loop = Loop(Runner(model, config, cache), Scheduler(1))
    answer = each.answer(config)
    answer.listen(no_error)
    loop.scheduler.add(answer)
    while answer.ending is None:
        loop.turn()
    return answer.sequence.output, each.sampler.seen


def compare(
    model, seed: int, parallel: int, threads=lambda: None, count: int = 24, cache: str | None = None
) -> int:  # fmt: skip
    """Returns how many tokens of prompts were not read again."""
    config, chance = model.config, random.Random(seed)
    asked = crowd(config, chance, count)
    expected = [alone(model, config, each, cache) for each in asked]
    costs = StepCosts({1: 1, 16: 1.1})
    loop = Loop(Runner(model, config, cache), Scheduler(parallel), prefix_bytes=100_000, step_costs=costs)
    threads()
    found = served(loop, config, asked, [tokens for tokens, _ in expected], chance)
    for each, (tokens, logits), (whole, all_logits) in zip(asked, found, expected, strict=True):
        assert tokens == whole[: len(tokens)], each
        assert each.leaves is not None or len(tokens) == len(whole)
        for mine, other in zip(logits, all_logits, strict=each.leaves is None):
            assert torch.equal(mine, other), each
    return loop.seats.reused


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
