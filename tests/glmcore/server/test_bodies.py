"""Bodies of every wrong kind: never a failure of the server's, never more work than a right one."""

from __future__ import annotations

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


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(body=body, path=st.sampled_from([CHAT, CHAT, COMPLETIONS]))
def test_no_body_is_a_failure_of_the_server(server: Any, body: Any, path: str) -> None:
    if isinstance(body, dict):  # whatever it asks for, a short answer does
        body = {**body, "max_tokens": 1, "max_completion_tokens": 1, "stream": False}
    status, reply, _ = server.ask("POST", path, json.dumps(body).encode("utf-8"))
    assert status in (200, 400, 404), reply
    if status != 200:
        assert set(reply["error"]) == {"message", "type", "param", "code"} and len(reply["error"]["message"]) <= 300


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
        {"messages": [USER], "\ud800": 1},
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
