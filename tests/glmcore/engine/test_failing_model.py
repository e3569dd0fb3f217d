"""A model that fails in the middle of an answer leaves nothing behind."""

from __future__ import annotations

import pytest
import torch

import glmcore
from glmcore.errors import GlmError

ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def engine():
    return glmcore.load(threads=1)


@pytest.mark.parametrize("failing", ["raises", "gives NaN"])
def test_the_cache_is_emptied_and_the_next_answer_is_whole(engine, monkeypatch, failing: str) -> None:
    whole = engine.chat(ASKED, max_new_tokens=6, temperature=0)
    decode, calls = engine.runner.decode, []

    def broken(token: int) -> torch.Tensor:
        calls.append(token)
        if len(calls) < 3:
            return decode(token)
        if failing == "raises":
            raise RuntimeError("broken")
        return torch.full_like(decode(token), torch.nan)

    with monkeypatch.context() as patched, pytest.raises((RuntimeError, GlmError)):
        patched.setattr(engine.runner, "decode", broken)
        engine.chat(ASKED, max_new_tokens=6, temperature=0)
    assert len(calls) == 3 and engine.runner.way.rows.held == [[]]
    assert engine.chat(ASKED, max_new_tokens=6, temperature=0) == whole
    assert engine.stats.reused_tokens == 0
