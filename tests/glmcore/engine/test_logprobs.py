"""Logprobs: log_softmax of the model's own logits, whatever a request changes, and the same bits in any company."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import glmcore
from glmcore.engine.batch.worth import StepCosts
from glmcore.engine.logprobs import Logprob, logprob_of, mean
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import Sampling

WORDS = " ".join(f"item{number % 5}" for number in range(40))


@settings(max_examples=60)
@given(
    size=st.integers(1, 300), seed=st.integers(0, 2**32), scale=st.sampled_from([0.0, 1.0, 30.0, 3e4]),
    top=st.integers(0, 20), dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_probabilities_are_those_of_softmax(size: int, seed: int, scale: float, top: int, dtype: torch.dtype) -> None:
    drawn = torch.Generator().manual_seed(seed)
    logits = (torch.randn(size, generator=drawn) * scale).to(dtype)
    token = int(torch.randint(size, (1,), generator=drawn))
    expected = logits.double().log_softmax(-1)
    found = logprob_of(logits, token, top)
    assert found.value == pytest.approx(float(expected[token]), rel=1e-6, abs=1e-6) and found.value <= 0
    ids, values = [each for each, _ in found.top], [value for _, value in found.top]
    assert len(set(ids)) == min(top, size) and values == sorted(values, reverse=True)
    assert values == pytest.approx([float(expected[each]) for each in ids], rel=1e-6, abs=1e-6)
    assert sum(map(math.exp, values)) <= 1 + 1e-6
    if top:
        assert logprob_of(logits, int(logits.argmax()), top).value == values[0]  # a greedy token is among the likeliest
        assert min(values) >= max((float(value) for each, value in enumerate(expected) if each not in ids),
                                  default=-math.inf) - 1e-6  # fmt: skip


def test_the_mean_counts_each_token_once() -> None:
    assert mean([]) == 0 and mean([Logprob(1, -1.0), Logprob(2, -3.0)]) == -2


def asked(engine, **more):
    return engine.submit(WORDS, max_new_tokens=40, logprobs=3, **more)


def told(answer) -> tuple[list[Logprob], Logprob | None]:
    return [piece.logprob for piece in answer if piece.token is not None], answer.ending.logprob


def test_they_are_the_models_own_whatever_sampling_does() -> None:
    engine = glmcore.load(dtype="float32", threads=1)
    bias = Sampling(0.5, 0.9, 3, repetition_penalty=1.3, logit_bias=((300, 50.0),))
    answer = asked(engine, sampling=bias)
    logprobs, ending = told(answer)
    tokens = [each.token for each in logprobs]
    assert tokens == answer.sequence.output and 300 in tokens and len(answer.logprobs) >= len(tokens)
    prompt = list(answer.sequence.prompt)
    with torch.inference_mode():
        logits = engine.runner.model(torch.tensor([prompt + tokens]))[0, len(prompt) - 1 :]
    for each, row in zip([*logprobs, *([ending] if ending else [])], logits.log_softmax(-1), strict=False):
        assert each.value == pytest.approx(float(row[each.token]), abs=1e-4)
        assert [value for _, value in each.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_drafts_and_company_change_no_bit() -> None:
    """Guessed tokens go through a step with others; a stop text or the end may come within a draft."""
    engine = glmcore.load(quantize="int8", threads=1, lookup=False)
    kinds = [Sampling(0, 1), Sampling(1.0, 0.9, 5), Sampling(0.7, 1.0, 6)]
    alone = [told(asked(engine, sampling=each)) for each in kinds]
    engine.loop.step_costs = StepCosts({1: 1, 16: 1.1})
    answers = [asked(engine, sampling=each, stop=("item3 item",) * (number > 2))
               for number, each in enumerate(kinds * 2)]  # fmt: skip
    together = [told(answer) for answer in answers]
    assert together[:3] == alone and sum(answer.stats.accepted_drafts for answer in answers)
    for (mine, _), (whole, _), answer in zip(together[3:], alone, answers[3:], strict=True):
        assert mine == whole[: len(mine)] and len(answer.logprobs) - len(mine) in (0, 1)


def test_a_stop_token_has_one_too() -> None:
    engine = glmcore.load(threads=1)
    runner = Runner(engine.runner.model, engine.config)
    ids = engine.prompt([{"role": "user", "content": "hello"}], None)
    first = int(runner.prefill(ids).argmax())
    answer = engine.submit(ids, sampling=Sampling(0, 1), stop_ids=(first,), logprobs=0)
    assert told(answer) == ([], answer.logprobs[0]) and answer.logprobs[0].token == first
    assert answer.ending.finish_reason == "stop" and answer.sequence.output == []
