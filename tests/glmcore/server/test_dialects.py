"""What holds in every dialect: who leaves frees the row, a full queue is told, and no body is the server's failure."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")

MODEL = "chatglm2-6b"
USER = {"role": "user", "content": "hello"}
# Route → (a request whose answer takes a while, where an error has its message).
LONG: dict[str, tuple[dict[str, Any], Callable[[Any], str]]] = {
    "/v1/chat/completions": ({"messages": [USER], "max_tokens": 30000}, lambda reply: reply["error"]["message"]),
    "/v1/completions": ({"prompt": "a", "max_tokens": 30000}, lambda reply: reply["error"]["message"]),
    "/v1/responses": ({"input": "a", "max_output_tokens": 30000}, lambda reply: reply["error"]["message"]),
    "/v1/messages": ({"messages": [USER], "max_tokens": 30000}, lambda reply: reply["error"]["message"]),
    "/api/chat": ({"model": MODEL, "messages": [USER]}, lambda reply: reply["error"]),
    "/api/generate": ({"model": MODEL, "prompt": "a", "raw": True}, lambda reply: reply["error"]),
}


def greedy(path: str, **more: Any) -> dict[str, Any]:
    body, _ = LONG[path]
    return {**body, **({"options": {"temperature": 0}} if path.startswith("/api") else {"temperature": 0}), **more}


def leave(connection: http.client.HTTPConnection) -> None:
    """As a client that is killed: the connection is shut in the middle of the answer."""
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


@pytest.fixture(scope="module")
def server(process: Callable[..., Any], endless: Path) -> Any:
    """A model whose answers do not end by themselves, one at a time; one may wait."""
    return process("--model", endless, "--threads", "1", "--parallel", "1", "--queue", "1", "--api-key", "secret")


@pytest.fixture
def idle(server: Any) -> Any:
    server.until(lambda stats: stats["queue"]["running"] == stats["queue"]["waiting"] == 0)
    return server


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", LONG)
def test_who_leaves_frees_the_row(idle: Any, path: str, stream: bool) -> None:
    before = idle.stats()["answers"].get("cancelled", 0)
    connection = idle.connect("POST", path, greedy(path, stream=stream))
    if stream:
        assert connection.getresponse().read(1)  # it has begun
    idle.until(lambda stats: stats["queue"]["running"] == 1)
    began = time.monotonic()
    leave(connection)
    idle.until(lambda stats: stats["queue"]["running"] == 0)
    assert time.monotonic() - began < 5  # the whole answer would have taken half a minute
    assert idle.stats()["answers"]["cancelled"] == before + 1


def test_a_full_queue_is_told_in_every_dialect(idle: Any) -> None:
    first = idle.connect("POST", "/api/chat", greedy("/api/chat"))
    idle.until(lambda stats: stats["queue"]["running"] == 1)
    second = idle.connect("POST", "/v1/messages", greedy("/v1/messages"))
    idle.until(lambda stats: stats["queue"]["waiting"] == 1)
    for path, (_, message) in LONG.items():
        status, reply, headers = idle.ask("POST", path, greedy(path))
        assert status == 503 and "try again in" in message(reply), reply
        assert int(headers["retry-after"]) >= 1 and int(headers["retry-after-ms"]) > 0
        assert path != "/v1/messages" or reply["error"]["type"] == "overloaded_error"
    for connection in (first, second):
        leave(connection)


def test_the_key_is_asked_for_in_every_dialect(idle: Any) -> None:
    for path, (_, message) in LONG.items():
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
            status, reply, headers = idle.ask("POST", path, greedy(path), **{"Authorization": "", **wrong})
            assert status == 401 and "key" in message(reply) and headers["www-authenticate"] == "Bearer"


WORDS = (
    "role", "content", "type", "text", "name", "arguments", "input", "output", "tool_calls", "function", "tools",
    "user", "system", "assistant", "tool", "message", "function_call", "function_call_output", "tool_use",
    "tool_result", "thinking", "reasoning", "input_text", "properties", "schema", "json_schema", "format",
    "num_predict", "enabled",
)  # fmt: skip
plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
anything = st.recursive(
    plain | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=4),
    max_leaves=8,
)
some = st.lists(anything | st.dictionaries(st.sampled_from(WORDS), anything, max_size=5), max_size=3) | anything
FIELDS = {
    "/v1/responses": (
        "input", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "temperature",
        "previous_response_id", "parallel_tool_calls", "store", "top_k", "logit_bias",
    ),
    "/v1/messages": (
        "messages", "system", "tools", "tool_choice", "thinking", "stop_sequences", "output_config", "top_p",
        "metadata", "mcp_servers",
    ),
    "/v1/messages/count_tokens": ("messages", "system", "tools", "tool_choice", "thinking", "output_config"),
    "/v1/responses/input_tokens": ("input", "instructions", "tools", "text"),
    "/api/chat": ("messages", "tools", "format", "think", "keep_alive", "logprobs", "template"),
    "/api/generate": ("prompt", "system", "raw", "format", "think", "images", "context", "suffix"),
    "/api/show": ("model", "name", "verbose"),
    "/api/embed": ("input", "dimensions", "options", "truncate"),
}  # fmt: skip
# What makes the answer short, or is needed to get as far as the others.
RIGHT: dict[str, dict[str, Any]] = {
    "/v1/responses": {"input": "a", "max_output_tokens": 1, "stream": False},
    "/v1/messages": {"messages": [USER], "max_tokens": 1, "stream": False},
    "/v1/messages/count_tokens": {"messages": [USER]}, "/v1/responses/input_tokens": {"input": "a"},
    "/api/chat": {"messages": [USER], "options": {"num_predict": 1}, "stream": False},
    "/api/generate": {"prompt": "a", "options": {"num_predict": 1}, "stream": False},
    "/api/show": {}, "/api/embed": {"input": "a"},
}  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any]:
    """A route, and a right request of which a few fields are of any kind."""
    path = draw(st.sampled_from(list(FIELDS)))
    changes = draw(st.dictionaries(st.sampled_from(FIELDS[path]), some, max_size=3))
    return path, draw(st.just({**RIGHT[path], **changes}) | st.just({**RIGHT[path], **changes}) | anything)


def is_error(path: str, reply: Any) -> bool:
    """Whether it has the form that clients of the route understand."""
    if path.startswith("/api/"):
        return set(reply) == {"error"} and isinstance(reply["error"], str)
    if path.startswith("/v1/messages"):
        return reply["type"] == "error" and set(reply["error"]) == {"type", "message"}
    return set(reply["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(request=requests())
def test_no_body_is_a_failure_of_the_server(glm4: Any, request: tuple[str, Any]) -> None:
    path, body = request
    if isinstance(body, dict) and path.startswith("/api"):
        body = {"model": glm4.engine.config.name, **body}
    status, reply, _ = glm4.ask("POST", path, json.dumps(body).encode("utf-8"))
    assert status in (200, 400, 404), reply
    assert status == 200 or is_error(path, reply), reply


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"7", b'"a"', b'{"a":' * 50_000])
def test_what_is_no_request_is_told_so(glm4: Any, path: str, body: bytes) -> None:
    status, reply, _ = glm4.ask("POST", path, body)
    assert status == 400 and is_error(path, reply), reply


SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["colour", "count"],
    "properties": {
        "colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}
    },
}  # fmt: skip
# Route → the fields that ask for SCHEMA, and where the answer has its text.
HELD: dict[str, tuple[dict[str, Any], Callable[[Any], str]]] = {
    "/v1/responses": (
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}}},
        lambda reply: reply["output"][0]["content"][0]["text"],
    ),
    "/v1/messages": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        lambda reply: reply["content"][0]["text"],
    ),
    "/api/chat": ({"format": SCHEMA}, lambda reply: reply["message"]["content"]),
    "/api/generate": ({"format": SCHEMA}, lambda reply: reply["response"]),
}


@pytest.mark.parametrize("path", HELD)
def test_answers_are_held_to_a_schema_in_every_dialect(glm4: Any, path: str) -> None:
    fields, text = HELD[path]
    names = {"/v1/responses": "max_output_tokens", "/v1/messages": "max_tokens"}
    room = {"options": {"num_predict": 200}} if path.startswith("/api") else {names[path]: 200}
    body = {**RIGHT[path], **room, **fields, "model": glm4.engine.config.name}
    status, reply, _ = glm4.ask("POST", path, body)
    assert status == 200, reply
    answer = json.loads(text(reply))
    assert set(answer) == {"colour", "count"} and answer["colour"] in ("red", "green") and 0 <= answer["count"] <= 99


PAINT = {"name": "paint", "description": "Paints walls."}
# Route → the fields that ask for a call, and the calls of an answer.
CALLED: dict[str, tuple[dict[str, Any], Callable[[Any], list[tuple[str, Any]]]]] = {
    "/v1/responses": (
        {"tools": [{"type": "function", **PAINT, "parameters": SCHEMA}], "tool_choice": "required"},
        lambda reply: [(item["name"], item["arguments"]) for item in reply["output"] if "arguments" in item],
    ),
    "/v1/messages": (
        {"tools": [{**PAINT, "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
        lambda reply: [(block["name"], block["input"]) for block in reply["content"] if "input" in block],
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", CALLED)
def test_a_call_that_must_come_comes_or_is_cut(glm4: Any, path: str) -> None:
    fields, calls = CALLED[path]
    limit = {"/v1/responses": "max_output_tokens", "/v1/messages": "max_tokens"}[path]
    status, reply, _ = glm4.ask("POST", path, {**RIGHT[path], **fields, limit: 200})
    assert status == 200, reply
    name, arguments = calls(reply)[0]
    made = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert name == "paint" and made["colour"] in ("red", "green") and 0 <= made["count"] <= 99
    status, cut, _ = glm4.ask("POST", path, {**RIGHT[path], **fields, limit: 8})
    assert status == 200 and cut.get("status", "incomplete") == "incomplete", cut
    assert cut.get("stop_reason", "max_tokens") == "max_tokens"


def test_ollama_tells_of_no_call_that_was_cut(caller: Any) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    body = {"model": caller.engine.config.name, "messages": [USER], "tools": [tool], "stream": False}
    for tokens, told in ((50, True), (4, False)):
        status, reply, _ = caller.ask(
            "POST", "/api/chat", {**body, "options": {"temperature": 0, "num_predict": tokens}}
        )
        assert status == 200 and ("tool_calls" in reply["message"]) is told, reply
        assert reply["done_reason"] == ("stop" if told else "length")
