"""Answers held to a schema, through the official client: valid from any model, alone or beside others."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, Field

pytest.importorskip("fastapi")
pytest.importorskip("llguidance")
openai = pytest.importorskip("openai")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GENERATIONS = ["v1", "v2", "v3", "glm4"]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Beijing", "上海", "a . b ?"]},
        "days": {
            "type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 30}, "minItems": 1, "maxItems": 3,
        },
        "sure": {"type": "boolean"},
        "note": {"type": ["string", "null"], "maxLength": 8},
    },
    "required": ["city", "days", "sure", "note"],
    "additionalProperties": False,
}  # fmt: skip
HELD = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}


class Sky(str, Enum):
    clear = "clear"
    rain = "rain"


class Day(BaseModel):
    sky: Sky
    degrees: int = Field(ge=-40, le=50)


class Weather(BaseModel):
    city: str = Field(max_length=6)
    days: list[Day] = Field(min_length=1, max_length=2)


@pytest.fixture(scope="module", params=GENERATIONS)
def server(request: pytest.FixtureRequest, local: Callable[..., Any], tiny: Callable[[str], Path]) -> Any:
    return local(tiny(request.param))


def asked(text: str = "Weather?", **settings: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 400, "temperature": 1, **settings}


def test_a_model_of_random_numbers_gives_what_pydantic_parses(server: Any) -> None:
    for seed in range(2):
        parsed = server.client().chat.completions.parse(
            model=server.engine.config.name, messages=[{"role": "user", "content": "天气？"}], seed=seed,
            temperature=1, max_tokens=400, response_format=Weather,
        )  # fmt: skip
        assert parsed.choices[0].finish_reason == "stop"
        assert isinstance(parsed.choices[0].message.parsed, Weather)


def test_whole_in_pieces_greedy_and_drawn(server: Any) -> None:
    for settings in ({"temperature": 0}, {"seed": 5}, {"seed": 6, "top_p": 0.5, "repetition_penalty": 1.3}):
        body = asked(response_format=HELD, **settings)
        status, reply, _ = server.ask("POST", CHAT, body)
        [choice] = reply["choices"]
        assert status == 200 and choice["finish_reason"] == "stop", reply
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
        events = server.events(CHAT, body)
        assert "".join(e["choices"][0]["delta"].get("content") or "" for e in events) == choice["message"]["content"]
        said = server.engine.chat(
            body["messages"], max_new_tokens=400, response_format=HELD, seed=settings.get("seed"),
            temperature=settings.get("temperature", 1), top_p=settings.get("top_p"),
        )  # fmt: skip
        if "repetition_penalty" not in settings:
            assert said == choice["message"]["content"]
        jsonschema.validate(json.loads(said), SCHEMA)


def test_an_answer_is_the_same_alone_and_beside_others(server: Any) -> None:
    """Held ones and free ones together: to the byte what each is by itself."""
    bodies = [asked(f"number {i}", seed=i, response_format=HELD) for i in range(4)]
    bodies += [asked(f"number {i}", seed=i, max_tokens=30) for i in range(4)]
    alone = [server.ask("POST", CHAT, body)[1]["choices"] for body in bodies]
    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(lambda body: server.ask("POST", CHAT, body)[1]["choices"], bodies))
    assert together == alone


def test_json_mode_begins_an_object_and_a_cut_is_said(server: Any) -> None:
    form = {"type": "json_object"}
    status, reply, _ = server.ask("POST", CHAT, asked(seed=1, response_format=form, max_tokens=12))
    [choice] = reply["choices"]
    assert status == 200 and choice["message"]["content"].startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    else:
        assert choice["finish_reason"] == "length"


def test_completions_are_held_too(v2: Any) -> None:
    body = {"prompt": "{", "max_tokens": 300, "seed": 3, "temperature": 1, "response_format": HELD}
    status, reply, _ = v2.ask("POST", COMPLETIONS, body)
    assert status == 200 and reply["choices"][0]["finish_reason"] == "stop"
    jsonschema.validate(json.loads(reply["choices"][0]["text"]), SCHEMA)


def test_text_is_as_without(v2: Any) -> None:
    plain = v2.ask("POST", CHAT, asked(seed=1, max_tokens=9))[1]["choices"]
    assert v2.ask("POST", CHAT, asked(seed=1, max_tokens=9, response_format={"type": "text"}))[1]["choices"] == plain


@pytest.mark.parametrize(
    "form, named",
    [
        ({"type": "xml"}, "unknown response_format"),
        ({"type": "json_schema"}, "json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": []}}}, "Unsatisfiable"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}, "nothing that ends"),
        ({"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"not": {}}}}, "not is not"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": "x" * 300_000}}}, "longer than"),
    ],
)
def test_a_bad_format_is_the_clients_fault(v2: Any, form: dict[str, Any], named: str) -> None:
    for path, body in ((CHAT, asked()), (COMPLETIONS, {"prompt": "a"})):
        for stream in (False, True):
            status, reply, _ = v2.ask("POST", path, {**body, "response_format": form, "stream": stream})
            assert status == 400 and reply["error"]["type"] == "invalid_request_error", reply
            assert reply["error"]["param"] == "response_format" and named in reply["error"]["message"]


def test_what_the_vocabulary_cannot_write_is_said(local: Callable[..., Any], tiny: Callable[[str], Path]) -> None:
    """ChatGLM-6B's has no wide comma."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": "好，的"}}}
    status, reply, _ = local(tiny("v1")).ask("POST", CHAT, asked(response_format=form))
    assert status == 400 and "vocabulary" in reply["error"]["message"]
