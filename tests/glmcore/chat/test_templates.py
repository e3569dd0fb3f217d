"""OpenAI-shaped messages to prompts: roles, contents, tools, system texts, and what is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from glmcore.chat.messages import from_pairs
from glmcore.chat.plain_tools import HEAD
from glmcore.chat.templates import Special, prompt
from glmcore.errors import GlmError

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "yo"}
SYSTEM = {"role": "system", "content": "be brief"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": '{"city": "北京", "days": 2}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "sunny"}


def text(messages: list[Any], generation: str, **options: Any) -> str:
    return "".join(s.name if isinstance(s, Special) else s for s in prompt(messages, generation, **options))


@pytest.mark.parametrize(
    ("generation", "messages", "expected"),
    [
        ("v1", [USER], "hi"),
        ("v1", [SYSTEM, USER], "be brief\nhi"),
        ("v1", [USER, ANSWER, USER], "[Round 0]\n问：hi\n答：yo\n[Round 1]\n问：hi\n答："),
        ("v2", [USER], "[Round 1]\n\n问：hi\n\n答："),
        ("v2", [SYSTEM, USER], "be brief\n\n[Round 1]\n\n问：hi\n\n答："),
        ("v2", [USER, USER], "[Round 1]\n\n问：hi\nhi\n\n答："),
        ("v2", [ANSWER, USER], "[Round 1]\n\n问：\n\n答：yo\n\n[Round 2]\n\n问：hi\n\n答："),
        ("v3", [SYSTEM, USER], "<|system|>\nbe brief<|user|>\nhi<|assistant|>"),
        ("glm4", [SYSTEM, USER], "<|system|>\nbe brief<|user|>\nhi<|assistant|>"),
        ("glm4", [USER, {"role": "assistant", "content": ""}], "<|user|>\nhi<|assistant|>"),
    ],
)
def test_prompts(generation: str, messages: list[Any], expected: str) -> None:
    assert text(messages, generation) == expected


def test_without_a_place_for_the_answer() -> None:
    assert text([USER], "v1", add_generation_prompt=False) == "hi"
    assert text([USER], "v2", add_generation_prompt=False) == "[Round 1]\n\n问：hi"
    assert text([USER, ANSWER], "v2", add_generation_prompt=False) == "[Round 1]\n\n问：hi\n\n答：yo"
    assert text([USER], "v3", add_generation_prompt=False) == "<|user|>\nhi"


def test_content_may_be_a_list_of_text_parts() -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    assert text([{"role": "user", "content": parts}], "v2") == text([USER], "v2")


def test_tool_calls_and_results_take_the_form_the_models_learned() -> None:
    v3 = text([USER, CALL, RESULT], "v3")
    assert (
        "<|assistant|>weather\n ```python\ntool_call(city='北京', days=2)\n```<|observation|>\nsunny<|assistant|>" in v3
    )
    glm4 = text([USER, CALL, RESULT], "glm4")
    assert '<|assistant|>weather\n{"city": "北京", "days": 2}<|observation|>\nsunny<|assistant|>' in glm4


def test_text_beside_a_tool_call_is_a_message_before_it() -> None:
    assert "<|assistant|>\nlet me look<|assistant|>weather\n" in text([USER, CALL | {"content": "let me look"}], "glm4")


def test_tools_join_the_system_message() -> None:
    v3 = text([SYSTEM, USER], "v3", tools=[WEATHER])
    assert v3.startswith("<|system|>\nbe brief\nAnswer the following questions")
    assert '[\n    {\n        "name": "weather"' in v3
    glm4 = text([SYSTEM, USER], "glm4", tools=[WEATHER])
    assert glm4.count("<|system|>") == 2
    assert "\n## weather\n\n{" in glm4
    assert glm4.endswith("<|system|>\nbe brief<|user|>\nhi<|assistant|>")


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_tools_of_the_first_generations_are_plain_text(generation: str) -> None:
    """As docs/server.md describes it."""
    made = text([SYSTEM, USER, CALL, RESULT], generation, tools=[WEATHER])
    head, described, *rest = made.replace("\n\n", "\n").split("\n")
    assert head == "be brief" and described == HEAD
    assert json.loads(rest[0])["name"] == "weather"
    assert rest[1].startswith("[Round ") and rest[2] == "问：hi"
    assert rest[3] == "答：weather" and isinstance(json.loads(rest[4]), dict)
    assert rest[6] == "问：The function returned:" and rest[-1] == "答："


@pytest.mark.parametrize("generation", ["v1", "v2", "v3", "glm4"])
@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([], "no message"),
        ("hi", "list"),
        (USER, "list"),
        (["hi"], r"messages\[0\]"),
        ([USER, {"role": "robot", "content": "x"}], r"robot.*messages\[1\]"),
        ([{"role": ["user"], "content": "x"}], r"unknown role"),
        ([{"content": "x"}], "unknown role None"),
        ([{"role": "user"}], "NoneType"),
        ([{"role": "user", "content": 3}], "int"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "image_url"),
        ([{"role": "user", "content": b"raw"}], "int|bytes"),
        ([{"role": "user", "content": "x", "metadata": 1}], "metadata"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}], "'f'"),
        ([USER, {"role": "assistant", "tool_calls": [{}]}], "function.name"),
        ([USER | {"tool_calls": CALL["tool_calls"]}], "cannot call"),
        ([USER | {"tools": "x"}], "tools"),
    ],
)
def test_bad_messages_are_named(generation: str, messages: Any, named: str) -> None:
    with pytest.raises(GlmError, match=named) as caught:
        prompt(messages, generation)
    assert caught.value.code == "usage"
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("generation", ["v3", "glm4"])
def test_the_callers_messages_stay_as_they_are(generation: str) -> None:
    messages = [SYSTEM | {"tools": [WEATHER]}, USER, CALL, RESULT]
    before = copy.deepcopy(messages)
    prompt(messages, generation, tools=[WEATHER])
    assert messages == before


def test_pairs_become_messages() -> None:
    messages = from_pairs([("a", "b"), ("c", "d")], "e")
    assert [m["content"] for m in messages] == ["a", "b", "c", "d", "e"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]
