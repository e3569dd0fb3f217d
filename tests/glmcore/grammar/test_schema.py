"""Which schemas are taken, which are refused and in which words, and that none takes for ever."""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from glmcore.errors import GlmError
from glmcore.grammar.forms import json_schema, schema_of
from glmcore.grammar.matcher import Grammars
from glmcore.tokenizers import load_tokenizer

pytest.importorskip("llguidance")
DEMO = Path(__file__).parents[3] / "glmcore" / "demo" / "model"


@cache
def grammars() -> Grammars:
    tokenizer = load_tokenizer(DEMO, "v2")
    return Grammars(tokenizer, len(tokenizer), tokenizer.stop_ids)


def takes(schema: Any, text: str, strict: bool = True) -> bool:
    """Whether an answer may be ``text`` and end there."""
    matcher = grammars().matcher(json_schema(schema, "v2", strict=strict, where="response_format"))
    for token in grammars().tokenizer.encode_within(text):
        if not matcher.allowed()[token]:
            return False
        matcher.note(token)
    return bool(matcher.allowed()[grammars().tokenizer.stop_ids[0]])


def refusal(schema: Any, strict: bool = True) -> str:
    with pytest.raises(GlmError) as caught:
        grammars().matcher(json_schema(schema, "v2", strict=strict, where="response_format"))
    assert (caught.value.code, caught.value.where) == ("usage", "response_format")
    assert "\n" not in caught.value.what and "lark" not in caught.value.what
    return f"{caught.value.what}: {caught.value.hint}"


def test_an_answer_ends_exactly_where_the_schema_is_satisfied() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert takes(schema, '{"a": 12}') and takes(schema, ' {\n    "a": -1\n}') and takes(schema, '{"a":1,"b":[null]}')
    for wrong in ('{"a": 1', '{"a": "1"}', "{}", '{"a": 1}}', "[]", ""):
        assert not takes(schema, wrong)
    assert not takes(schema, '{"a":' + "\n" * 9 + "1}")  # blanks are bounded, else a model may write them for ever


@pytest.mark.parametrize(
    "schema, named",
    [
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "minLength (5) is greater than maxLength (3)"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "required property 'a'"),
        ({"$ref": "#"}, "nothing that ends"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "nothing that ends"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "nothing that ends"),
        ({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a"}}}, "nothing that ends"),
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "object", "required": "a"}, "required"),
        ({"type": "object", "properties": 5}, "properties must be an object"),
        ({"$ref": "http://example.com/x"}, "http://example.com/x"),
        ({"$ref": "#/$defs/no"}, "/$defs/no"),
        ({"type": "string", "pattern": "["}, "pattern '[': unclosed character class"),
        ("text", "a JSON object"),
        ([], "a JSON object"),
        ({"enum": ["x" * 300_000]}, "longer than"),
        ({"const": "\ud800"}, "no JSON"),
    ],
)
def test_what_cannot_be_satisfied_is_said(schema: Any, named: str) -> None:
    assert named in refusal(schema)


def test_a_recursive_schema_that_can_end_is_taken() -> None:
    either = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    tree = {"type": "object", "properties": {"next": either}, "required": ["next"]}
    assert takes(tree, '{"next": {"next": null}}')
    assert takes({"type": "array", "items": {"$ref": "#"}}, "[[], [[]]]")


@pytest.mark.parametrize(
    "keyword, value",
    [
        ("not", {"type": "string"}), ("if", {}), ("uniqueItems", True), ("contains", {}), ("propertyNames", {}),
        ("dependentRequired", {"a": ["b"]}), ("unevaluatedProperties", False), ("$dynamicRef", "#a"),
        ("format", "idn-email"), ("pattern", "(?=a)b"),
    ],
)  # fmt: skip
def test_a_keyword_that_does_not_hold_is_named_or_left_out(keyword: str, value: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", keyword: value}}, "required": ["a"]}
    assert keyword in refusal(schema) and "strict" in refusal(schema)
    assert takes(schema, '{"a": "b"}', strict=False)
    with_that_name = {"type": "object", "properties": {keyword: {"type": "integer"}}, "enum_of": [{keyword: value}]}
    assert takes(with_that_name, json.dumps({keyword: 1}))


def test_what_asks_for_nothing_is_taken() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "T", "description": "d", "type": "array",
        "items": {"type": "string", "format": "password", "default": "x", "examples": ["y"], "x-y": 1},
        "uniqueItems": False,
    }  # fmt: skip
    assert takes(schema, '["a", "b"]')
    assert takes({**schema, "x-guidance": {"item_separator": ";"}}, '["a", "b"]')


@pytest.mark.parametrize(
    "kind, right, wrong",
    [
        ("date", ("2024-02-29", "2000-02-29", "1999-12-31", "2023-02-28"),
         ("0000-01-01", "2023-02-29", "1900-02-29", "2023-02-30", "2023-13-01")),
        ("date-time", ("2024-02-29T23:59:59Z", "2023-01-01T00:00:00.5+01:00"),
         ("2023-02-29T00:00:00Z", "2023-01-01T23:59:60Z", "0000-01-01T00:00:00Z")),
        ("time", ("23:59:59Z", "00:00:00.25+01:00"), ("23:59:60Z", "24:00:00Z")),
    ],
)  # fmt: skip
def test_days_and_times_are_those_of_the_calendar(kind: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    schema = {"type": "string", "format": kind}
    assert all(takes(schema, json.dumps(text)) for text in right)
    assert not any(takes(schema, json.dumps(text)) for text in wrong)


def test_no_format_lets_an_answer_go_on_for_ever() -> None:
    """Each text is as long as may be, and too long with one character more in the same place."""
    for kind, before, after, most in (
        ("email", "a", "@example.org", 254), ("hostname", "a.", "org", 253), ("duration", "P1", "D", 64),
        ("date-time", "2024-02-29T23:59:59.1", "+01:00", 35), ("time", "23:59:59.1", "+01:00", 24),
    ):  # fmt: skip
        schema, filling = {"type": "string", "format": kind}, before[-2:] if kind == "hostname" else before[-1]
        text = before + filling * ((most - len(before + after)) // len(filling))
        assert takes(schema, json.dumps(text + after)) and not takes(schema, json.dumps(text + 2 * filling + after))
        assert takes({**schema, "maxLength": 2 * most}, json.dumps(text + after))


def test_one_of_several_cases() -> None:
    shapes = [{"type": "object", "properties": {"k": {"const": k}}, "required": ["k"]} for k in "ab"]
    assert takes({"oneOf": shapes}, '{"k": "b"}') and not takes({"oneOf": shapes}, '{"k": "c"}')
    both = {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}
    assert "oneOf" in refusal(both) and "coerce" not in refusal(both)
    assert takes(both, '"abcd"', strict=False)


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "integer", "multipleOf": factor} for factor in (97, 101, 103, 107)]},
        {"type": "string", "pattern": "^(a|b)*a(a|b){300}$", "maxLength": 2000},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(8000)}},
    ],
)
def test_no_schema_takes_for_ever(schema: Any) -> None:
    before = time.process_time()
    assert "to prepare; make it smaller" in refusal(schema)
    assert time.process_time() - before < 2  # in this process; the other one ends after 3


def test_nesting_is_bounded() -> None:
    def nested(levels: int) -> Any:
        schema: Any = {"type": "string"}
        for _ in range(levels):
            schema = {"type": "object", "properties": {"a": schema}}
        return schema

    assert takes(nested(40), "{}")
    assert "deeper than" in refusal(nested(60)) and "deeper than" in refusal(nested(5000))


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "xml"}, {}, {"type": None}, {"type": ["text"]}, {"type": "json_schema"}, "json_object", 5,
        {"type": "json_schema", "json_schema": 5}, {"type": "json_schema", "json_schema": {"name": "x"}},
    ],
)  # fmt: skip
def test_a_response_format_of_another_kind_is_refused(asked: Any) -> None:
    with pytest.raises(GlmError) as caught:
        schema_of(asked)
    assert caught.value.code == "usage" and caught.value.where == "response_format"
