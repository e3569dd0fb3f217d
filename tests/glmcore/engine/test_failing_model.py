"""A model that fails in the middle of an answer leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

import glmcore
from glmcore.engine.sampling import Sampling
from glmcore.errors import GlmError

ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def engine():
    return glmcore.load(threads=1)


@pytest.mark.parametrize("failing", ["raises", "gives NaN"])
def test_the_cache_is_emptied_and_the_next_answer_is_whole(engine, monkeypatch, failing: str) -> None:
    whole = engine.chat(ASKED, max_new_tokens=6, temperature=0)
    way = engine.runner.way
    step, calls = way.step, []

    def broken(tokens: dict[int, list[int]]) -> torch.Tensor:
        calls.append(tokens)
        if len(calls) < 3:
            return step(tokens)
        if failing == "raises":
            raise RuntimeError("broken")
        return torch.full_like(step(tokens), torch.nan)

    with monkeypatch.context() as patched, pytest.raises((RuntimeError, GlmError)):
        patched.setattr(way, "step", broken)
        engine.chat(ASKED, max_new_tokens=6, temperature=0)
    assert len(calls) == 3 and not any(way.rows.held)
    assert engine.chat(ASKED, max_new_tokens=6, temperature=0) == whole
    assert engine.stats.reused_tokens == 0


def test_one_answer_that_fails_takes_no_other_with_it(engine, monkeypatch) -> None:
    """A step for several fails as a whole; only the one that fails by itself too hears of it."""
    prompts = ["hello", "what is libcuda?", "gcc"]
    whole = engine.generate(prompts, max_new_tokens=8, temperature=0)
    way = engine.runner.way
    step = way.step

    def broken(tokens: dict[int, list[int]]) -> torch.Tensor:
        if any(way.rows.held[row][: len(doomed)] == doomed for row in tokens):
            raise RuntimeError("broken")
        return step(tokens)

    doomed = engine.tokenizer.encode(prompts[1], add_special_tokens=True)
    with monkeypatch.context() as patched:
        patched.setattr(way, "step", broken)
        answers = [engine.submit(text, max_new_tokens=8, sampling=Sampling(0, 1)) for text in prompts]
        assert [answers[0].text(), answers[2].text()] == [whole[0], whole[2]]
        with pytest.raises(RuntimeError):
            answers[1].text()
    assert engine.generate(prompts, max_new_tokens=8, temperature=0) == whole
