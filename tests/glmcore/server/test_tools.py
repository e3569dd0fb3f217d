"""Calls of tools from models of random numbers: valid by construction, forced or not, whole or as they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("llguidance")
openai = pytest.importorskip("openai")

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "天气？"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 5}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "now"}},
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(scope="module", params=["v1", "v2", "v3", "glm4"])
def server(request: pytest.FixtureRequest, local: Callable[..., Any], tiny: Callable[[str], Path]) -> Any:
    return local(tiny(request.param))


def asked(**settings: Any) -> dict[str, Any]:
    return {"messages": USER, "tools": TOOLS, "max_tokens": 200, "temperature": 1, **settings}


def valid(call: dict[str, Any]) -> bool:
    function = call["function"]
    schema = PARAMETERS if function["name"] == "get_weather" else {"const": {}}
    jsonschema.validate(json.loads(function["arguments"]), schema)
    return call["type"] == "function" and call["id"].startswith("call_")


def test_a_named_function_is_called(server: Any) -> None:
    for seed in range(3):
        status, reply, _ = server.ask("POST", CHAT, asked(seed=seed, tool_choice=NAMED))
        [choice] = reply["choices"]
        assert status == 200 and choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
        [call] = choice["message"]["tool_calls"]
        assert valid(call) and call["function"]["name"] == "get_weather"


def test_some_function_must_be_called(server: Any) -> None:
    for seed in range(3):
        status, reply, _ = server.ask("POST", CHAT, asked(seed=seed, tool_choice="required", parallel_tool_calls=False))
        [call] = reply["choices"][0]["message"]["tool_calls"]
        assert status == 200 and valid(call)
    many = server.ask("POST", CHAT, asked(seed=1, tool_choice="required"))[1]["choices"][0]
    assert all(map(valid, many["message"]["tool_calls"][:-1]))
    assert many["finish_reason"] == "length" or valid(many["message"]["tool_calls"][-1])


def test_calls_come_in_pieces_through_the_official_client(server: Any) -> None:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="-", max_retries=0)
    body = asked(seed=5, tool_choice=NAMED)
    whole = server.ask("POST", CHAT, body)[1]["choices"][0]["message"]["tool_calls"][0]["function"]
    with client.chat.completions.stream(model=server.engine.config.name, **body) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds.count("tool_calls.function.arguments.delta") > 1
    [done] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert {"name": done.name, "arguments": done.arguments} == whole
    assert stream.get_final_completion().choices[0].finish_reason == "tool_calls"


def test_a_result_goes_back_and_the_engine_says_the_same(server: Any) -> None:
    body = asked(seed=2, tool_choice=NAMED)
    message = server.ask("POST", CHAT, body)[1]["choices"][0]["message"]
    said: list[Any] = []
    settings = {"max_new_tokens": 200, "temperature": 1, "seed": 2, "tools": TOOLS, "tool_choice": NAMED}
    assert "".join(server.engine.stream(USER, call=said.append, **settings)) == ""
    whole = server.engine.chat(USER, **settings)["tool_calls"][0]["function"]
    assert whole == message["tool_calls"][0]["function"] and said[0].name == "get_weather"
    assert "".join(part.text for part in said[1:]) == whole["arguments"]
    talk = [*USER, message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "晴"}]
    status, reply, _ = server.ask("POST", CHAT, asked(messages=talk, max_tokens=5, tool_choice="none"))
    assert status == 200 and "tool_calls" not in reply["choices"][0]["message"]


def test_beside_others_a_call_is_the_same(server: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    bodies = [asked(seed=seed, max_tokens=60, tool_choice=choice) for seed in range(2) for choice in (NAMED, "auto")]

    def functions(body: dict[str, Any]) -> Any:
        [choice] = server.ask("POST", CHAT, body)[1]["choices"]
        calls = [call["function"] for call in choice["message"].get("tool_calls", [])]
        return choice["message"]["content"], calls, choice["finish_reason"]

    alone = [functions(body) for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as clients:
        assert list(clients.map(functions, bodies)) == alone


@pytest.mark.parametrize(
    "change, param",
    [
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        ({"parallel_tool_calls": "no way"}, "parallel_tool_calls"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
         "tools[0].function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}}]},
         "tools[0].function.parameters"),
        ({"tools": [TOOLS[1], TOOLS[1]]}, "tools[1]"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
    ],
)  # fmt: skip
def test_bad_tools_are_the_clients_fault(server: Any, change: dict[str, Any], param: str) -> None:
    status, reply, _ = server.ask("POST", CHAT, asked(**change))
    assert status == 400 and reply["error"]["type"] == "invalid_request_error", reply
    assert reply["error"]["param"] == param
