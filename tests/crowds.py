"""Many answers at once, held to the bits of each alone: what the tests of batching and of stages share."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from glmcore.engine.batch.answer import Answer, Item
from glmcore.engine.batch.lookup import Lookup
from glmcore.engine.batch.loop import Loop
from glmcore.engine.batch.scheduler import Scheduler
from glmcore.engine.batch.worth import StepCosts
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampler, Sampling
from glmcore.engine.sequence import Sequence

LONGEST = 110


class Mute:
    """In place of an answer's text: these checkpoints have no tokenizer."""

    stopped, found = False, None

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
        if asked and chance.random() < 0.25:  # the very prompt of another, as of several choices
            prompt = chance.choice(asked).prompt
        sampling = Sampling(0, 1) if chance.random() < 0.5 else Sampling(1.0, 0.9, chance.randrange(1000))
        leaves = chance.randint(0, 12) if chance.random() < 0.25 else None
        asked.append(Asked(prompt, chance.randint(1, 16), sampling, chance.randint(0, 30), leaves))
    return asked


class Knowing(Lookup):
    """Drafts what the answer will be, and often something wrong: in place of a text that repeats itself."""

    def __init__(self, each: Asked, whole: list[int], chance: random.Random) -> None:
        super().__init__([*each.prompt, *whole[:1]])
        self.prompt, self.whole, self.dice = len(each.prompt), whole, chance

    def guess(self, most: int) -> tuple[list[int], list[float]]:
        drafted = self.whole[len(self.tokens) - self.prompt :][: min(most, self.dice.randint(0, 8))]
        tokens = [token if self.dice.random() < 0.8 else token // 2 for token in drafted]
        return tokens, [0.9] * len(tokens)


def served(
    loop: Loop, config, asked: list[Asked], wholes: list[list[int]], chance: random.Random
) -> list[tuple[list[int], list[torch.Tensor]]]:
    """All of them on one model, in turns; pieces of prompts are of any size. Tokens and logits of each."""
    loop.costs.tokens_beside = lambda rows, seconds: chance.randint(1, 50)
    way, shared = loop.way, []
    follow_beside = way.follow_beside
    way.follow_beside = lambda tokens, *of_prompt: shared.append(len(tokens)) or follow_beside(tokens, *of_prompt)
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
    assert bool(shared) == bool(way.beside)  # passes of answers and of a prompt
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
    model, seed: int, parallel: int, threads=lambda: None, count: int = 24, cache: str | None = None,
    runner: Runner | None = None,
) -> int:  # fmt: skip
    """Returns how many tokens of prompts were not read again. runner: one of the same model in another form."""
    config, chance = model.config, random.Random(seed)
    asked = crowd(config, chance, count)
    expected = [alone(model, config, each, cache) for each in asked]
    costs = StepCosts({1: 1, 16: 1.1})
    runner = runner or Runner(model, config, cache)
    loop = Loop(runner, Scheduler(parallel), prefix_bytes=100_000, step_costs=costs)
    threads()
    found = served(loop, config, asked, [tokens for tokens, _ in expected], chance)
    for each, (tokens, logits), (whole, all_logits) in zip(asked, found, expected, strict=True):
        assert tokens == whole[: len(tokens)], each
        assert each.leaves is not None or len(tokens) == len(whole)
        for mine, other in zip(logits, all_logits, strict=each.leaves is None):
            assert torch.equal(mine, other), each
    return loop.seats.reused
