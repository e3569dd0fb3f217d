"""Anthropic's API over raw HTTP: its documented events in their order, its errors, its key, and its own client."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("fastapi")

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
USER = {"role": "user", "content": "What is 2+2?"}
WEATHER = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": [USER], "max_tokens": 12, "temperature": 0, **more}


def created(server: Any, **more: Any) -> dict[str, Any]:
    status, reply, _ = server.ask("POST", MESSAGES, asked(**more))
    assert status == 200, reply
    return reply


def streamed(server: Any, **more: Any) -> list[dict[str, Any]]:
    return server.named_events(MESSAGES, asked(**more))


def together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client makes of the events, whose order is looked at on the way."""
    first, *middle, last_delta, stop = events
    assert first["type"] == "message_start" and stop == {"type": "message_stop"}
    message = {**first["message"], **last_delta["delta"], "usage": last_delta["usage"]}
    content: list[dict[str, Any]] = []
    arguments, open_block = "", False
    for event in middle:
        index, kind = event["index"], event["type"]
        if kind == "content_block_start":
            assert not open_block and index == len(content)
            content.append(dict(event["content_block"]))
            arguments, open_block = "", True
        elif kind == "content_block_delta":
            assert open_block and index == len(content) - 1
            delta, block = event["delta"], content[-1]
            if delta["type"] == "input_json_delta":
                arguments += delta["partial_json"]
            else:
                name = delta["type"].removesuffix("_delta")
                block[name] += delta[name]
        else:
            assert kind == "content_block_stop" and open_block and index == len(content) - 1
            open_block = False
            if content[-1]["type"] == "tool_use":
                content[-1]["input"] = json.loads(arguments)
    assert not open_block
    return {**message, "content": content}


def tokens_in(reply: dict[str, Any]) -> int:
    return reply["usage"]["input_tokens"] + reply["usage"]["cache_read_input_tokens"]


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    content = [{k: v for k, v in block.items() if k != "id"} for block in message["content"]]
    return {**message, "content": content, "id": "", "usage": {**message["usage"], "cache_read_input_tokens": 0}}


def test_a_message_is_what_chat_says(v2: Any) -> None:
    chat = v2.chat(USER["content"], max_tokens=12)
    reply = created(v2)
    assert reply["content"] == [{"type": "text", "text": chat["choices"][0]["message"]["content"], "citations": None}]
    assert (reply["type"], reply["role"], reply["model"]) == ("message", "assistant", "chatglm2-6b")
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("max_tokens", None)
    assert tokens_in(reply) == chat["usage"]["prompt_tokens"] and reply["usage"]["output_tokens"] == 12


def test_a_stream_is_the_message_in_documented_events(v2: Any) -> None:
    events = streamed(v2)
    assert [event["type"] for event in events[:2]] == ["message_start", "content_block_start"]
    assert events[0]["message"]["content"] == [] and events[0]["message"]["stop_reason"] is None
    assert events[0]["message"]["usage"]["input_tokens"] > 0
    whole = without_ids(created(v2))
    streamed_whole = without_ids(together(events))
    for message in (whole, streamed_whole):
        message["usage"].pop("input_tokens")  # what the cache held is counted apart
    assert streamed_whole == whole


def test_a_stop_sequence_is_named(v2: Any) -> None:
    text = created(v2)["content"][0]["text"]
    stop = text[5:8]
    reply = created(v2, stop_sequences=["nowhere", stop])
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", stop)
    assert "".join(block["text"] for block in reply["content"]) == text[: text.index(stop)].rstrip()


def test_system_and_blocks_of_text_are_read(glm4: Any) -> None:
    system = [
        {"type": "text", "text": "Be "},
        {"type": "text", "text": "brief.", "cache_control": {"type": "ephemeral"}},
    ]
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "2+2?"}]
    same = [{"role": "system", "content": "Be brief."}, USER]
    chat = glm4.ask("POST", "/v1/chat/completions", {"messages": same, "temperature": 0, "max_tokens": 12})[1]
    in_blocks = {"system": system, "messages": [{"role": "user", "content": parts}]}
    for more in (in_blocks, {"system": "Be brief."}, {"messages": same}):
        reply = created(glm4, **more)
        assert "".join(block["text"] for block in reply["content"]) == chat["choices"][0]["message"]["content"]
        assert tokens_in(reply) == chat["usage"]["prompt_tokens"] == len(glm4.engine.prompt(same, None))


def test_calls_and_their_results(caller: Any) -> None:
    reply = created(caller, tools=[WEATHER], max_tokens=50)
    [block] = reply["content"]
    assert reply["stop_reason"] == "tool_use" and block["id"].startswith("toolu_")
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "get_weather", {"city": "北京"})
    assert (
        without_ids(together(streamed(caller, tools=[WEATHER], max_tokens=50)))["content"]
        == without_ids(reply)["content"]
    )
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": [{"type": "text", "text": "晴"}]}
    talk = [
        USER,
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, block]},
        {"role": "user", "content": [result, {"type": "text", "text": "And now?"}]},
    ]
    status, counted, _ = caller.ask("POST", COUNT, {"messages": talk, "tools": [WEATHER]})
    assert status == 200, counted
    from glmcore.chat.templates import prompt

    same = [
        USER, {"role": "assistant", "content": "Let me see."},
        {"role": "assistant", "content": None, "tool_calls": [
            {"function": {"name": "get_weather", "arguments": '{"city": "北京"}'}}]},
        {"role": "tool", "content": "晴"}, {"role": "user", "content": "And now?"},
    ]  # fmt: skip
    function = {"name": "get_weather", "parameters": WEATHER["input_schema"]}
    tools = [{"type": "function", "function": function}]
    assert counted == {"input_tokens": len(caller.engine.prompt(same, tools))}
    assert "get_weather" in str(prompt(same, "glm4", tools=tools))
    assert created(caller, messages=talk, tools=[WEATHER], max_tokens=50)["stop_reason"] == "tool_use"


def test_a_tool_that_may_not_be_called_is_not(caller: Any) -> None:
    reply = created(caller, tools=[WEATHER], tool_choice={"type": "none"}, max_tokens=50)
    assert reply["stop_reason"] == "end_turn" and reply["content"][0]["type"] == "text"


def test_thoughts_are_blocks_of_their_own(thinker: Any) -> None:
    reply = created(thinker, max_tokens=50)
    thought, text = reply["content"]
    assert thought == {"type": "thinking", "thinking": "二加三。", "signature": ""} and text["text"] == "五"
    assert together(streamed(thinker, max_tokens=50))["content"] == reply["content"]
    back = [USER, {"role": "assistant", "content": reply["content"]}, USER]
    plain = [USER, {"role": "assistant", "content": "五"}, USER]
    counts = [thinker.ask("POST", COUNT, {"messages": talk})[1]["input_tokens"] for talk in (back, plain)]
    assert counts[0] == counts[1]
    assert created(thinker, thinking={"type": "enabled", "budget_tokens": 1024})["content"]
    assert thinker.ask("POST", MESSAGES, asked(thinking={"type": "disabled"}))[0] == 400


def test_tokens_are_counted_as_the_prompt_has_them(v2: Any) -> None:
    status, reply, _ = v2.ask("POST", COUNT, {"messages": [USER], "model": "chatglm2-6b"})
    assert status == 200 and reply["input_tokens"] == tokens_in(created(v2))
    assert v2.ask("POST", COUNT, {"messages": []})[0] == 400


def test_either_header_is_the_key(caller: Any) -> None:
    for headers in ({"x-api-key": "secret"}, {"Authorization": "Bearer secret"}):
        assert caller.ask("POST", COUNT, {"messages": [USER]}, **{"Authorization": "", **headers})[0] == 200
    for wrong in (
        {},
        {"x-api-key": ""},
        {"x-api-key": "secre"},
        {"x-api-key": "Bearer secret"},
        {"x-api-key": "sécret"},
    ):
        status, reply, headers = caller.ask("POST", MESSAGES, asked(), **{"Authorization": "", **wrong})
        assert status == 401 and reply["error"]["type"] == "authentication_error", wrong
    assert caller.ask("GET", "/v1/models", **{"Authorization": "", "x-api-key": "secret"})[0] == 200


def user(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}, USER]}


@pytest.mark.parametrize(
    "body, status, kind, named",
    [
        (b"{", 400, "invalid_request_error", "JSON"),
        ([], 400, "invalid_request_error", ""),
        ({"messages": [USER]}, 400, "invalid_request_error", "max_tokens"),
        (asked(max_tokens=0), 400, "invalid_request_error", "max_tokens"),
        (asked(messages=[]), 400, "invalid_request_error", "messages"),
        (asked(messages=[{"role": "cat", "content": "x"}]), 400, "invalid_request_error", "messages.0.role"),
        (asked(messages=[USER, {"role": "assistant", "content": " "}]), 400, "invalid_request_error", "messages"),
        (asked(**user({"type": "image"})), 400, "invalid_request_error", "messages.0.content.0"),
        (asked(**user({"type": "text", "text": 1})), 400, "invalid_request_error", "messages.0.content.0"),
        (asked(**user({"type": ["text"]})), 400, "invalid_request_error", "messages.0.content.0"),
        (asked(**user({"type": "tool_use", "name": "f", "input": {}})), 400, "invalid_request_error", "tool_use"),
        (asked(**user({"type": "tool_use", "name": "f"}, role="assistant")), 400, "invalid_request_error", "input"),
        (asked(**user({"type": "tool_result", "content": 0})), 400, "invalid_request_error", "messages.0.content.0"),
        (asked(system=[{"type": "image"}]), 400, "invalid_request_error", "system"),
        (asked(messages=[{"role": "user", "content": "x " * 40_000}]), 400, "invalid_request_error", "context"),
        (asked(temperature="hot"), 400, "invalid_request_error", "temperature"),
        (asked(top_k=-5), 400, "invalid_request_error", "top_k"),
        (asked(stop_sequences=["x"] * 99), 400, "invalid_request_error", "stop_sequences"),
        (asked(stop_sequences=["x"], stop="y"), 400, "invalid_request_error", "stop"),
        (asked(n=2), 400, "invalid_request_error", "n is not supported"),
        (asked(tool_choice={"type": "tool"}), 400, "invalid_request_error", "tool_choice"),
        (asked(tool_choice={"type": []}), 400, "invalid_request_error", "tool_choice"),
        (asked(tools=[{"type": "bash_20250124", "name": "bash"}]), 400, "invalid_request_error", "tools.0.type"),
        (asked(tools=[{"input_schema": {}}]), 400, "invalid_request_error", "tools.0.name"),
        (asked(thinking={"type": "enabled", "budget_tokens": 1024}), 400, "invalid_request_error", "thinking"),
        (asked(thinking={"type": []}), 400, "invalid_request_error", "thinking"),
        (asked(thinking={"display": "omitted"}), 400, "invalid_request_error", "thinking.display"),
        (asked(output_config={"effort": "low"}), 400, "invalid_request_error", "output_config.effort"),
        (asked(output_config={"format": "json"}), 400, "invalid_request_error", "output_config.format"),
        (asked(mcp_servers=[{"url": "x"}]), 400, "invalid_request_error", "mcp_servers"),
        (asked(model="claude"), 404, "not_found_error", "chatglm2-6b"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_get_anthropics_error(
    v2: Any, body: Any, status: int, kind: str, named: str, stream: bool
) -> None:
    body = {**body, "stream": stream} if isinstance(body, dict) else body
    got, reply, _ = v2.ask("POST", MESSAGES, body)
    assert (got, reply["type"], reply["error"]["type"]) == (status, "error", kind), reply
    assert set(reply["error"]) == {"type", "message"} and named in reply["error"]["message"]
    assert len(reply["error"]["message"]) <= 300 and "\n" not in reply["error"]["message"]


def test_what_stands_before_the_route_answers_in_its_form(v2: Any) -> None:
    for status, kind, headers in (
        (415, "invalid_request_error", {"Content-Type": "text/plain"}),
        (403, "permission_error", {"Host": "evil.example"}),
        (413, "request_too_large", {"Content-Length": str(2**30)}),
    ):  # fmt: skip
        got, reply, _ = v2.ask("POST", MESSAGES, asked(), **headers)
        assert (got, reply["error"]["type"]) == (status, kind)
    assert v2.ask("GET", MESSAGES)[1]["error"]["type"] == "invalid_request_error"
    assert v2.ask("POST", "/v1/messages/batches", {})[1]["error"]["type"] == "not_found_error"


def test_fields_that_change_nothing_are_taken(v2: Any) -> None:
    more = {
        "metadata": {"user_id": "me"}, "service_tier": "auto", "thinking": {"type": "disabled"}, "tools": [],
        "tool_choice": {"type": "auto"}, "stop_sequences": [], "unheard_of": 1, "top_p": None,
    }  # fmt: skip
    assert created(v2, **more)["content"] == created(v2)["content"]


def test_a_failure_in_a_stream_is_its_last_event(v2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tokens: dict[int, list[int]]) -> None:
        raise RuntimeError("the text of the prompt")

    with monkeypatch.context() as patched:
        patched.setattr(v2.engine.runner.way, "step", fail)
        last = streamed(v2)[-1]
        assert last["type"] == "error" and last["error"]["type"] == "api_error"
        assert v2.ask("POST", MESSAGES, asked())[0] == 500
    assert created(v2)["content"]
