"""OpenAI's response objects, as plain data."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glmcore.chat.calls import Arguments, Calling
from glmcore.chat.deltas import Delta, calls_of
from glmcore.chat.reasoning import Thought
from glmcore.engine.stats import Stats


@dataclass(frozen=True)
class Head:
    """What all objects of one reply share; ``kind`` is "chat.completion" or "text_completion"."""

    kind: str
    model: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def reply(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return self._object(self.kind, choices, more)

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """One event of a stream; only chat has a name of its own for it."""
        return self._object(self.kind + ".chunk" * self.kind.startswith("chat"), choices, more)

    def _object(self, name: str, choices: list[dict[str, Any]], more: dict[str, Any]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.kind.startswith("chat") else "cmpl"
        head = {"id": f"{prefix}-{self.id}", "object": name, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more}


def usage(answers: Sequence[Stats], per_prompt: int = 1) -> dict[str, Any]:
    """Of all answers to a request, of which so many in a row have one prompt, which counts once."""
    first = answers[::per_prompt]
    prompts, said = sum(stats.prompt_tokens for stats in first), sum(stats.generated_tokens for stats in answers)
    return {
        "prompt_tokens": prompts,
        "completion_tokens": said,
        "total_tokens": prompts + said,
        "prompt_tokens_details": {"cached_tokens": sum(stats.reused_tokens for stats in first)},
    }


def embeddings(model: str, read: Sequence[Stats]) -> dict[str, Any]:
    """The reply without its ``data``."""
    prompts = sum(stats.prompt_tokens for stats in read)
    return {"object": "list", "model": model, "usage": {"prompt_tokens": prompts, "total_tokens": prompts}}


def message(deltas: Iterable[Delta]) -> dict[str, Any]:
    """The assistant's message that the deltas make."""
    parts = list(deltas)
    text = "".join(part for part in parts if isinstance(part, str))
    calls = [_call(**call) for call in calls_of(parts)]
    thought = "".join(part.text for part in parts if isinstance(part, Thought))
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        said["reasoning_content"] = thought
    return said | {"content": text or None, "tool_calls": calls} if calls else said


def chat_delta(delta: Delta, calls: int) -> dict[str, Any]:
    """One delta of a stream; ``calls`` are those that have begun before."""
    if isinstance(delta, Thought):
        return {"reasoning_content": delta.text}
    if isinstance(delta, Calling):
        return {"tool_calls": [{"index": calls, **_call(delta.name)}]}
    if isinstance(delta, Arguments):
        return {"tool_calls": [{"index": calls - 1, "function": {"arguments": delta.text}}]}
    return {"content": delta}


def _call(name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def chat_choice(
    index: int, finish_reason: str | None, logprobs: list[dict[str, Any]] | None, **content: Any
) -> dict[str, Any]:
    """``message`` or ``delta`` with why it ended."""
    told = None if logprobs is None else {"content": logprobs, "refusal": None}
    return {"index": index, **content, "logprobs": told, "finish_reason": finish_reason}


def text_choice(index: int, text: str, finish_reason: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
