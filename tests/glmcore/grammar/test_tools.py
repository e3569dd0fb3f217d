"""Calls as each generation writes them: what may be said and where it may end."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from golden_cases import rest

from glmcore.errors import GlmError
from glmcore.grammar.matcher import Grammars
from glmcore.grammar.shape import shaped
from glmcore.tokenizers import load_tokenizer

pytest.importorskip("llguidance")
HI = [{"role": "user", "content": "hi"}]
NEXT = "<|assistant|>"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "sure": {"$ref": "#/$defs/S"}},
            "required": ["city"],
            "$defs": {"S": {"enum": ["yes", True]}},
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
ODD = {"name": "odd", "parameters": {"type": "object", "properties": {"my-arg": {"type": "integer"}}}}
CALLS = {
    "v3": (
        'get_weather\n ```python\ntool_call(city="北京", days=3, sure=true)\n```',
        ' get_weather\n```python\ntool_call(city="a", sure="yes")\n```',
        "now\n ```python\ntool_call()\n```",
        'odd\n ```python\ntool_call(**{"my-arg": 1})\n```',
    ),
    "glm4": (
        'get_weather\n{"city": "北京", "days": 3, "sure": true}', ' get_weather\n{"city": "a"}', "now\n{}", "odd\n{}",
    ),
}  # fmt: skip
WRONG = {
    "v3": (
        "get_weather\n ```python\ntool_call()\n```", "get_weather\n ```python\ntool_call(days=3)\n```",
        'get_weather\n ```python\ntool_call(city="a", city="b")\n```', "get_weather\nhello",
        'get_weather\n ```python\ntool_call(city="a", town="b")\n```', "now\n ```python\ntool_call(x=1)\n```",
    ),
    "glm4": ("get_weather\n{}", 'get_weather\n{"days": 3}', "get_weather\nhello", 'now\n{"a": 1}', "odd\n[]",
             'get_weather\n{"city": "a", "days": "b"}'),
}  # fmt: skip
CALLS["v2"], WRONG["v2"] = CALLS["glm4"], WRONG["glm4"]
TEXTS = ("", "\n 今天晴。", "get_weather", "get_weather is it", "\nget_weather\n{", "say\nget_weather\n")


@cache
def grammars(generation: str) -> Grammars:
    tokenizer = load_tokenizer(rest(generation, "tokenizer"), generation)
    return Grammars(tokenizer, len(tokenizer), tokenizer.stop_ids)


def may_be(generation: str, text: str, **asked: Any) -> bool:
    """Whether an answer may be ``text``, special tokens by their names, and end there."""
    made = grammars(generation)
    special = made.tokenizer.special
    shape = shaped(HI, generation, special.get(NEXT), **{"tools": [WEATHER, NOW, ODD], **asked})
    matcher, ids = made.matcher(shape.grammar), list[int]()
    for place, part in enumerate(text.split(NEXT)):
        ids += ([special[NEXT]] if place else []) + made.tokenizer.encode_within(part)
    for token in ids:
        if not matcher.allowed()[token]:
            return False
        matcher.note(token)
    return bool(matcher.allowed()[made.tokenizer.stop_ids[0]])


@pytest.mark.parametrize("generation", CALLS)
def test_a_call_that_begins_is_valid(generation: str) -> None:
    for call in CALLS[generation]:
        assert may_be(generation, call) and may_be(generation, call, tool_choice="required"), call
        assert not may_be(generation, call[:-1])
    for call in WRONG[generation]:
        assert not may_be(generation, call) and not may_be(generation, call, tool_choice="required"), call


@pytest.mark.parametrize("generation", CALLS)
def test_text_is_free_where_no_call_is_wanted(generation: str) -> None:
    for text in TEXTS:
        assert may_be(generation, text), text
        assert not may_be(generation, text, tool_choice="required")


@pytest.mark.parametrize("generation", ["v3", "glm4"])
def test_several_messages(generation: str) -> None:
    one, two = CALLS[generation][0], CALLS[generation][2]
    calls, words = f"{one}{NEXT}{two}", f"\nwell{NEXT}{one}"
    assert may_be(generation, calls) and may_be(generation, words) and may_be(generation, f"{words}{NEXT}{two}")
    assert may_be(generation, calls, tool_choice="required") and not may_be(generation, words, tool_choice="required")
    assert not may_be(generation, calls, parallel_tool_calls=False)
    assert may_be(generation, words, parallel_tool_calls=False)
    named = {"type": "function", "function": {"name": "now"}}
    assert may_be(generation, two, tool_choice=named) and not may_be(generation, one, tool_choice=named)
    assert not may_be(generation, f"{two}{NEXT}{two}", tool_choice=named)


def test_beside_a_format_text_is_by_the_schema() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "items": {"type": "null"}}}}
    assert may_be("glm4", "[null]", response_format=form) and not may_be("glm4", "[1]", response_format=form)
    assert may_be("glm4", CALLS["glm4"][0], response_format=form)


@pytest.mark.parametrize(
    "asked, where",
    [
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": ["auto"]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "then"}}}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tools": [NOW, NOW]}, "tools[1]"),
        ({"tools": [{"function": {"name": "a\nb"}, "type": "function"}]}, "tools[0]"),
        ({"tools": [{"name": "a", "parameters": {"type": "string"}}]}, "tools[0].function.parameters"),
        ({"tools": [{"name": "a", "parameters": 5}]}, "tools[0].function.parameters"),
        ({"tools": [NOW, {"name": "a", "strict": True, "parameters": {"not": {}}}]}, "tools[1].function.parameters"),
        ({"tools": [{"name": "a", "parameters": {"properties": {"x": {"enum": []}}, "required": ["x"]}}]}, "tools"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], where: str) -> None:
    with pytest.raises(GlmError) as caught:
        may_be("glm4", "", **asked)
    assert (caught.value.code, caught.value.where) == ("usage", where)
