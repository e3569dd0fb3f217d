"""Choosing tokens: each setting against its definition, written out here in another way, by Python's floats."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmcore.engine.sampling import Sampler, Sampling
from glmcore.errors import GlmError

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=40)


def definition(logits: list[float], sampling: Sampling) -> dict[int, float]:
    """Token → probability of what is kept: temperature, then the top_k, of these the nucleus, of these min_p."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[: sampling.top_k or None]
    weights = {i: math.exp(logits[i] / sampling.temperature) for i in order}
    total, before, kept = sum(weights.values()), 0.0, {}
    for i in order:
        share = weights[i] / total
        if before >= sampling.top_p or share < sampling.min_p * weights[order[0]] / total:
            break
        kept[i] = share
        before += share
    return kept


@given(LOGITS, st.floats(0.3, 2), st.integers(0, 45), st.floats(0.05, 1), st.floats(0, 1))
def test_top_k_top_p_and_min_p_keep_what_their_definition_keeps(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    sampling = Sampling(temperature, top_p, top_k=top_k, min_p=min_p)
    ids, probabilities = Sampler(sampling).nucleus(torch.tensor(logits) / temperature)
    expected = definition(logits, sampling)
    # At a border a rounding may decide; everything else is the same.
    differing = set(ids.tolist()) ^ set(expected)
    assert all(borderline(logits, sampling, i) for i in differing)
    for i, probability in zip(ids.tolist(), probabilities.tolist(), strict=True):
        assert i in differing or probability == pytest.approx(expected[i], rel=1e-4)


def borderline(logits: list[float], sampling: Sampling, token: int) -> bool:
    """Whether the token has an equal, or lies within rounding of where top_p or min_p cuts."""
    if sum(abs(other - logits[token]) < 1e-5 for other in logits) > 1:
        return True
    slightly = (1 - 1e-4, 1 + 1e-4)
    varied = [
        definition(
            logits, replace(sampling, top_p=min(1, sampling.top_p * first), min_p=min(1, sampling.min_p * second))
        )
        for first in slightly
        for second in slightly
    ]
    return any(token in kept for kept in varied) and not all(token in kept for kept in varied)


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=6, max_size=6),
    st.lists(st.integers(0, 5), max_size=4),
    st.floats(0.5, 2), st.floats(-2, 2), st.floats(-2, 2), st.dictionaries(st.integers(0, 5), st.floats(-100, 100)),
)  # fmt: skip
def test_greedy_answers_follow_bias_and_penalties_token_by_token(
    logits: list[float], prompt: list[int], repetition: float, presence: float, frequency: float, bias: dict[int, float]
) -> None:
    sampling = Sampling(
        0, repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency,
        logit_bias=tuple(bias.items()),
    )  # fmt: skip
    sampler, said, given_logits = Sampler(sampling, prompt), Counter[int](), torch.tensor(logits)
    for _ in range(8):
        values = [logit + bias.get(i, 0) for i, logit in enumerate(logits)]
        for i in {*prompt, *said}:
            values[i] = values[i] / repetition if values[i] > 0 else values[i] * repetition
        values = [value - presence * (said[i] > 0) - frequency * said[i] for i, value in enumerate(values)]
        token = sampler(given_logits)
        assert values[token] >= max(values) - 1e-3
        said[token] += 1
    assert given_logits.tolist() == torch.tensor(logits).tolist()  # they are the model's, and may be read again


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": -1}, {"min_p": 1.5}, {"repetition_penalty": 0.0}, {"presence_penalty": 2.1},
        {"frequency_penalty": -3}, {"logit_bias": ((1, 101.0),)},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(settings: dict[str, object]) -> None:
    with pytest.raises(GlmError) as caught:
        Sampling(**settings)  # type: ignore[arg-type]
    assert caught.value.code == "usage"
