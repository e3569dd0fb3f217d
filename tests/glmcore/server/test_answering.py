"""What the engine's thread makes of tokens: several messages in one answer, why it ended, and giving up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import glmcore
from glmcore.engine.sampling import Sampling

pytest.importorskip("fastapi")
from glmcore.chat.deltas import NEXT_MESSAGE, Deltas, calls_of

TOOLS = ("get_weather",)
V3 = 'get_weather\n ```python\ntool_call(city="北京")\n```'
GLM4 = 'get_weather\n{"city": "北京"}'


def says(monkeypatch: pytest.MonkeyPatch, engine: Any, *parts: str, end: str = "<|observation|>") -> None:
    """Let the engine say ``parts``, names of special tokens or texts, whatever it is asked."""
    special = engine.tokenizer.special
    ids = iter(
        [i for part in (*parts, end) for i in ([special[part]] if part in special else engine.tokenizer.encode(part))]
    )

    def logits(*_: Any) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(next(ids)), len(engine.tokenizer)).float()

    monkeypatch.setattr(engine.runner.way, "read", logits)
    monkeypatch.setattr(engine.runner.way, "step", lambda tokens: logits()[None])


@pytest.fixture(scope="module", params=["v3", "glm4"])
def engine(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Any:
    return glmcore.load(tiny(request.param), dtype="float32", threads=1)


def answered(engine: Any, *, leaves_after: int = 99, **settings: Any) -> tuple[str, str]:
    """The text and why it ended."""
    answer = engine.submit((1, 2), **{"max_new_tokens": 99, "sampling": Sampling(0, 1), **settings})
    pieces = []
    for number, piece in enumerate(answer, start=1):
        pieces.append(piece.text)
        if number == leaves_after:
            answer.cancel()
    return "".join(pieces), answer.ending.finish_reason


def test_words_before_a_call_and_two_calls(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call = V3 if engine.config.generation == "v3" else GLM4
    says(monkeypatch, engine, "\n我查一下。", "<|assistant|>", call, "<|assistant|>", call)
    text, reason = answered(engine, shown=(NEXT_MESSAGE,))
    taken = Deltas(engine.config.generation, TOOLS)
    deltas = [*taken.push(text), *taken.finish()]
    assert reason == "stop" and "".join(d for d in deltas if isinstance(d, str)) == "我查一下。"
    assert calls_of(deltas) == [{"name": "get_weather", "arguments": '{"city": "北京"}'}] * 2


def test_why_it_ended(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, engine, "\n今天天气很好")
    assert answered(engine)[1] == "stop"
    says(monkeypatch, engine, "\n今天天气很好")
    assert answered(engine, max_new_tokens=3)[1] == "length"
    says(monkeypatch, engine, "\n今天天气很好")
    text, reason = answered(engine, stop=("天气",))
    assert text.strip() == "今天" and reason == "stop"
    says(monkeypatch, engine, "\n一二三四五六七八九十" * 40)
    assert answered(engine, leaves_after=3)[1] == "cancelled"


def test_who_leaves_before_the_turn_gets_nothing(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, engine, "\n今天天气很好")
    monkeypatch.setattr(engine.loop, "submit", lambda answer: None)
    answer = engine.submit((1, 2))
    monkeypatch.undo()
    answer.cancel()
    engine.loop.submit(answer)
    assert not answer.text() and answer.ending.finish_reason == "cancelled"
