"""The table that decides what becomes of each field: every row of it, asked of a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("fastapi")

from glmcore.server.fields import DONE, FIELDS, HARMLESS, Only
from glmcore.server.schemas import ChatRequest, CompletionRequest, StreamOptions

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
# Values that no server takes for "nothing asked".
ASKING: tuple[Any, ...] = (7.5, {"type": "object"}, ["x"])


def asked(name: str, value: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 1}
    outer, _, inner = name.partition(".")
    return {**body, "stream": True, outer: {inner: value}} if inner else {**body, outer: value}


def status_of(server: Any, body: dict[str, Any]) -> tuple[int, Any]:
    status, reply, _ = server.ask("POST", CHAT, body)
    return status, reply


def test_what_the_table_calls_done_is_what_the_schemas_read() -> None:
    read = {*ChatRequest.model_fields, *CompletionRequest.model_fields}
    read |= {f"stream_options.{name}" for name in StreamOptions.model_fields}
    assert {name for name, fate in FIELDS.items() if fate == DONE} == read


@pytest.mark.parametrize("name", [name for name, fate in FIELDS.items() if isinstance(fate, Only)])
def test_what_is_not_carried_out_is_refused(v2: Any, name: str) -> None:
    for value in ASKING:
        status, reply = status_of(v2, asked(name, value))
        assert status == 400 and reply["error"]["type"] == "invalid_request_error", (value, reply)
        assert reply["error"]["param"] == name and name in reply["error"]["message"]
    fate = FIELDS[name]
    assert isinstance(fate, Only)
    assert all(json.dumps(value) in reply["error"]["message"] for value in fate.values)  # as a client writes it
    for value in (None, *fate.values):
        assert status_of(v2, asked(name, value))[0] == 200, value


def test_what_is_harmless_changes_nothing(v2: Any) -> None:
    plain = status_of(v2, asked("seed", 1))[1]["choices"]
    for name in (name for name, fate in FIELDS.items() if fate == HARMLESS and "." not in name):
        for value in (None, *ASKING):
            status, reply = status_of(v2, asked(name, value))
            assert (status, reply.get("choices")) == (200, plain), name


@pytest.mark.parametrize(
    "field",
    [
        {"repeat_penalty": 1.1}, {"grammar": 'root ::= "a"'}, {"ignore_eos": True},
        {"json_schema": {}}, {"guided_json": {}}, {"structured_outputs": {"json": {}}}, {"min_tokens": 5},
        {"options": {"num_predict": 3}}, {"format": "json"}, {"n": True}, {"suffix": "b"},
    ],
)  # fmt: skip
def test_nothing_that_would_change_the_answer_is_ignored(v2: Any, field: dict[str, Any]) -> None:
    [name] = field
    for path, body in ((CHAT, asked(name, field[name])), (COMPLETIONS, {"prompt": "a", "max_tokens": 1, **field})):
        status, reply, _ = v2.ask("POST", path, body)
        assert status == 400 and reply["error"]["param"] == name and name in reply["error"]["message"]


def test_a_field_that_nobody_knows_changes_nothing(v2: Any) -> None:
    plain, added = (status_of(v2, {**asked("seed", 1), **more}) for more in ({}, {"x_client_trace": {"id": [1]}}))
    assert plain[0] == added[0] == 200 and plain[1]["choices"] == added[1]["choices"]


def test_the_other_routes_fields_are_refused(v2: Any) -> None:
    assert v2.ask("POST", COMPLETIONS, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]})[0] == 400
    assert status_of(v2, asked("prompt", "a"))[0] == 400


def test_minus_one_is_no_limit(v2: Any) -> None:
    """As much as the context holds: an answer that a thousand tokens more would not have made longer."""
    messages = [{"role": "user", "content": "What is 2+2?"}]
    context = v2.engine.config.max_length
    for name in ("max_tokens", "max_completion_tokens"):
        status, reply, _ = v2.ask("POST", CHAT, {"messages": messages, "temperature": 0, name: -1})
        assert status == 200, reply
        usage, ended = reply["usage"], reply["choices"][0]["finish_reason"]
        assert ended == "stop" or usage["total_tokens"] == context
        assert v2.ask("POST", CHAT, {"messages": messages, name: -2})[0] == 400
        assert v2.ask("POST", CHAT, {"messages": messages, name: 0})[0] == 400


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_null_is_no_text(v2: Any, role: str) -> None:
    hello = {"role": "user", "content": "hello"}
    nothing, empty = ([{"role": role, "content": text}, hello] for text in (None, ""))
    settings = {"temperature": 0, "max_tokens": 3}
    status, reply, _ = v2.ask("POST", CHAT, {"messages": nothing, **settings})
    assert status == 200, reply
    assert reply["choices"] == v2.ask("POST", CHAT, {"messages": empty, **settings})[1]["choices"]
