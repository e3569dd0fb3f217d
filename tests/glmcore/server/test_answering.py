"""What the engine's thread makes of tokens: several messages in one answer, why it ended, and giving up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import glmcore
from glmcore.chat.messages import Call
from glmcore.engine.sampling import Sampling

pytest.importorskip("fastapi")
from glmcore.server.answering import Task, answer
from glmcore.server.deltas import Deltas

TOOLS = ("get_weather",)
V3 = "get_weather\n ```python\ntool_call(city='北京')\n```"
GLM4 = 'get_weather\n{"city": "北京"}'


class Script:
    """A runner whose model says the given ids, whatever it is fed."""

    reused = 0

    def __init__(self, ids: Sequence[int], vocabulary: int) -> None:
        self.ids, self.vocabulary = iter(ids), vocabulary

    def prefill(self, prompt: Sequence[int]) -> torch.Tensor:
        return self.decode(0)

    def decode(self, token: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(next(self.ids)), self.vocabulary).float()


@pytest.fixture(scope="module", params=["v3", "glm4"])
def engine(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Any:
    return glmcore.load(tiny(request.param), dtype="float32", threads=1)


def says(engine: Any, *parts: str, end: str = "<|observation|>") -> None:
    """Let the engine say ``parts``: names of special tokens, or texts."""
    special = engine.tokenizer.special
    ids = [i for part in (*parts, end) for i in ([special[part]] if part in special else engine.tokenizer.encode(part))]
    engine.runner = Script(ids, len(engine.tokenizer))


def answered(engine: Any, **settings: Any) -> tuple[str, str]:
    """The text and why it ended."""
    pieces: list[str] = []
    task = Task(**{"prompt": (1, 2), "max_new_tokens": 99, "sampling": Sampling(0, 1), **settings})
    reason = answer(engine, task, pieces.append, lambda: len(pieces) > 50)
    return "".join(pieces), reason


def test_words_before_a_call_and_two_calls(engine: Any) -> None:
    call = V3 if engine.config.generation == "v3" else GLM4
    says(engine, "\n我查一下。", "<|assistant|>", call, "<|assistant|>", call)
    text, reason = answered(engine, several=True)
    taken = Deltas(engine.config.generation, TOOLS)
    deltas = [*taken.push(text), *taken.finish()]
    assert reason == "stop" and "".join(d for d in deltas if isinstance(d, str)) == "我查一下。"
    assert [d for d in deltas if isinstance(d, Call)] == [Call("get_weather", {"city": "北京"})] * 2


def test_why_it_ended(engine: Any) -> None:
    says(engine, "\n今天天气很好")
    assert answered(engine)[1] == "stop"
    says(engine, "\n今天天气很好")
    assert answered(engine, max_new_tokens=3)[1] == "length"
    says(engine, "\n今天天气很好")
    text, reason = answered(engine, stop=("天气",))
    assert text.strip() == "今天" and reason == "stop"
    says(engine, "\n一二三四五六七八九十" * 40)
    assert answered(engine)[1] == "cancelled"


def test_the_sequence_says_how_it_ended(engine: Any) -> None:
    for end, settings in (("stop", {}), ("length", {"max_new_tokens": 3}), ("stop", {"stop": ("天气",)})):
        says(engine, "\n今天天气很好")
        sequence = engine.sequence((1, 2), settings.pop("max_new_tokens", 99))
        assert sequence.finish_reason is None
        assert "".join(engine.text(sequence, Sampling(0, 1), **settings)) and sequence.finish_reason == end
    says(engine, "\n今天天气很好")
    sequence = engine.sequence((1, 2), 99)
    assert not "".join(engine.text(sequence, Sampling(0, 1), cancelled=lambda: True))
    assert sequence.finish_reason == "cancelled"
