"""Bodies of every wrong kind: never a failure of the server's, never more work than a right one."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")

from glmcore.server.fields import FIELDS

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "hi"}
WORDS = (
    "role", "content", "tool_calls", "function_call", "function", "name", "arguments", "type", "parameters", "metadata",
    "tools", "text", "user", "system", "assistant", "tool",
)  # fmt: skip
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(WORDS)
)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=4),
    max_leaves=8,
)
call = st.fixed_dictionaries({}, optional={"id": anything, "type": anything, "function": anything}) | anything
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"]) | anything},
    optional={
        "content": anything, "tool_calls": st.lists(call, max_size=2) | anything, "function_call": anything,
        "metadata": anything, "tools": anything, "name": anything, "tool_call_id": anything,
    },
)  # fmt: skip
tool = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["function", "python"]) | anything,
        "function": st.fixed_dictionaries({"name": anything}, optional={"parameters": anything}) | anything,
    },
)
body = (
    st.fixed_dictionaries(
        {"messages": st.lists(message, max_size=3) | anything},
        optional={
            "tools": st.lists(tool | anything, max_size=2) | anything,
            **{name: anything for name in FIELDS if "." not in name and name not in ("messages", "tools")},
        },
    )
    | st.fixed_dictionaries({"messages": st.lists(message | st.just(USER), min_size=1, max_size=3)})
    | st.fixed_dictionaries({"messages": st.just([USER]), "tools": st.lists(tool, max_size=2)})
    | anything
)


@pytest.fixture(scope="module", params=["v2", "v3", "glm4"])
def server(request: pytest.FixtureRequest, local: Callable[..., Any], tiny: Callable[[str], Path]) -> Any:
    return local(tiny(request.param))


# Of the other dialects' fields those that hold something, and values that some route takes.
texts = st.sampled_from(["hi", [], ["hi"], [USER], [{"type": "text", "text": "hi"}], {"format": {}}, [5, 6]])
NAMES = ("content", "tokens", "instructions", "metadata", "text", "system", "options", "reasoning", "include")
others = st.fixed_dictionaries(
    {"messages": st.just([USER]) | anything, "input": texts | anything, "prompt": texts | anything},
    optional={
        name: texts | st.dictionaries(st.text(max_size=5), anything, max_size=2) | anything
        for name in NAMES
    },
)  # fmt: skip


def told(path: str, reply: dict[str, Any]) -> str:
    """What an error says, which has the form of its dialect."""
    if path.startswith("/api/"):
        return reply["error"]
    if path.startswith("/v1/messages"):
        assert reply["type"] == "error" and {"type", "message"} <= set(reply["error"])
    else:
        assert set(reply["error"]) == {"message", "type", "param", "code"}
    return reply["error"]["message"]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(body=body | others, place=st.integers(0, 99))
def test_no_body_is_a_failure_of_the_server(server: Any, body: Any, place: int) -> None:
    routes = [path for path, methods in server.ask("GET", "/openapi.json")[1]["paths"].items() if "post" in methods]
    path = [CHAT, COMPLETIONS, *routes][place % (len(routes) + 2)]
    if isinstance(body, dict):  # whatever it asks for, a short answer does
        short = {"max_tokens": 1, "max_completion_tokens": 1, "stream": False, "options": {"num_predict": 1}}
        model = server.engine.config.name if path.startswith("/api/") else None
        body = {**body, **short, "max_output_tokens": 1, "model": model}
    status, reply, _ = server.ask("POST", path, json.dumps(body).encode("utf-8"))
    assert status in (200, 400, 404), reply
    if status != 200:
        assert 0 < len(told(path, reply)) <= 300


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "the body is empty"), (b"null", "the body is empty or null"), (b"[]", "is to be a JSON object"),
        (b'{"messages": ', "not valid JSON: Expecting value at character 13"),
        (b'{"messages": "\xff"}', "not UTF-8: byte 14"), (b"[" * 100_000, "nested too deeply"),
        (b'{"temperature": NaN}', "a number in it is none"), (b'{"temperature": 1e999}', "too large"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "too large"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_body_is_said(server: Any, sent: bytes, words: str) -> None:
    for path in (CHAT, "/v1/responses", "/v1/messages", "/api/chat"):
        status, reply, _ = server.ask("POST", path, sent)
        assert status == 400 and words in told(path, reply), reply


def test_half_characters_are_replaced_where_they_would_be_told_again(server: Any) -> None:
    body = {"input": "hi", "metadata": {"a": "b\ud800"}, "max_output_tokens": 1, "\ud800": 1}
    status, reply, _ = server.ask("POST", "/v1/responses", body)
    assert status == 200 and reply["metadata"] == {"a": "b\ufffd"}


@pytest.mark.parametrize(
    ("path", "field", "param", "words"),
    [
        (CHAT, {"stop": ["a"] * 17}, "stop", "at most 16 items"), (CHAT, {"stop": "a" * 1001}, "stop", "1000 char"),
        (CHAT, {"stop": ["a", 5]}, "stop.1", "a valid string"), (CHAT, {"logit_bias": {"x": 1}}, "logit_bias", "integ"),
        (CHAT, {"max_completion_tokens": 2}, "max_completion_tokens", "differ"),
        (COMPLETIONS, {"prompt": []}, "prompt", "at least 1 item"),
        (COMPLETIONS, {"prompt": ["a", 5]}, "prompt.1", "a valid string"),
        (COMPLETIONS, {"prompt": [[5], []]}, "prompt.1", "at least 1 item"),
    ],
)  # fmt: skip
def test_the_field_that_is_wrong_is_named(
    server: Any, path: str, field: dict[str, Any], param: str, words: str
) -> None:
    needed = {"messages": [USER]} if path == CHAT else {"prompt": "hi"}
    status, reply, _ = server.ask("POST", path, {**needed, "max_tokens": 1, **field})
    assert status == 400 and reply["error"]["param"].startswith(param) and words in reply["error"]["message"], reply
    assert "constrained" not in reply["error"]["param"]


def test_a_full_context_says_by_how_much(server: Any) -> None:
    context = server.engine.context
    status, reply, _ = server.ask("POST", COMPLETIONS, {"prompt": [[5] * (context + 9)], "max_tokens": 1})
    assert status == 400 and reply["error"]["code"] == "context_length_exceeded"
    assert f"has {context + 9} tokens, the context is {context}" in reply["error"]["message"]
    assert "by 10 tokens or more" in reply["error"]["message"]


def test_a_packed_body_is_refused(server: Any) -> None:
    status, reply, _ = server.ask("POST", CHAT, gzip.compress(b"{}"), **{"Content-Encoding": "gzip"})
    assert status == 415 and "Content-Encoding" in reply["error"]["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "assistant", "tool_calls": 5}]},
        {"messages": [{"role": "assistant", "tool_calls": "f"}]},
        {"messages": [{"role": "assistant", "tool_calls": {"a": 1}}]},
        {"messages": [{**USER, "tools": 5}]},
        {"messages": [{**USER, "tools": ["x"]}]},
        {"messages": [{**USER, "metadata": 0}]},
        {"messages": [USER], "tools": [{"type": ["function"]}]},
        {"messages": [USER], "tools": [{"type": {}, "function": {"name": "f"}}]},
    ],
)
def test_wrong_kinds_are_the_clients_fault(server: Any, change: dict[str, Any]) -> None:
    status, reply, _ = server.ask("POST", CHAT, {**change, "max_tokens": 1})
    assert status == 400 and reply["error"]["type"] == "invalid_request_error", reply


def nested(depth: int) -> Any:
    return json.loads('{"a":' * depth + "{}" + "}" * depth)


@pytest.mark.parametrize("count, depth", [(1, 900), (60, 300), (1, 20_000)])
def test_a_nested_schema_does_not_grow(
    local: Callable[..., Any], tiny: Callable[[str], Path], count: int, depth: int
) -> None:
    """Indented, 5.5 KB of it became 3 MB of text, and 210,000 tokens."""
    server = local(tiny("glm4"))
    schema = '{"a":' * depth + "{}" + "}" * depth
    one = f'{{"type": "function", "function": {{"name": "f", "parameters": {schema}}}}}'
    data = f'{{"messages": [{json.dumps(USER)}], "max_tokens": 1, "tools": [{", ".join([one] * count)}]}}'
    started = time.process_time()
    status, reply, _ = server.ask("POST", CHAT, data.encode())
    assert status == 400, reply
    assert time.process_time() - started < 2  # the server is a thread of ours; tokenised, it took longer by far
    many = [{"role": "system", "content": "", "tools": [{"name": "f", "parameters": nested(300)}]}] * 60
    assert server.ask("POST", CHAT, {"messages": many, "max_tokens": 1})[0] == 400
