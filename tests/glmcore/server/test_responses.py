"""OpenAI's responses over raw HTTP: the documented events in their order, its errors, and the official client."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("fastapi")
openai = pytest.importorskip("openai")

RESPONSES, COUNT = "/v1/responses", "/v1/responses/input_tokens"
HELLO = "What is 2+2?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "get_weather", "parameters": CITY}


def asked(**more: Any) -> dict[str, Any]:
    return {"input": HELLO, "max_output_tokens": 12, "temperature": 0, **more}


def created(server: Any, **more: Any) -> dict[str, Any]:
    status, reply, _ = server.ask("POST", RESPONSES, asked(**more))
    assert status == 200, reply
    return reply


def streamed(server: Any, **more: Any) -> list[dict[str, Any]]:
    """The events, each with its number."""
    events = server.named_events(RESPONSES, asked(**more))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output that a client makes of the events, whose order is looked at on the way."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["status"] == "in_progress" and events[0]["response"]["output"] == []
    output: list[dict[str, Any]] = []
    said = ""
    for event in events[2:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert event["output_index"] == len(output) and event["item"]["status"] == "in_progress"
            output.append(event["item"])
            said = ""
            continue
        assert event["output_index"] == len(output) - 1 and event.get("item_id", output[-1]["id"]) == output[-1]["id"]
        if kind.endswith(".delta"):
            said += event["delta"]
        elif kind == "content_part.done":
            assert event["part"]["text"] == said
        elif kind.endswith(("_text.done", "arguments.done")):
            assert event.get("text", event.get("arguments")) == said
        elif kind == "output_item.done":
            output[-1] = event["item"]
        else:
            assert kind == "content_part.added" and event["part"]["text"] == ""
    assert events[-1]["response"]["output"] == output
    return output


def plain(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name not in ("id", "call_id")} for item in output]


def test_a_response_is_what_chat_says(v2: Any) -> None:
    chat = v2.chat(HELLO, max_tokens=12)
    reply = created(v2)
    [message] = reply["output"]
    [part] = message["content"]
    assert part == {
        "type": "output_text", "text": chat["choices"][0]["message"]["content"], "annotations": [], "logprobs": []
    }  # fmt: skip
    assert (reply["object"], reply["status"], message["role"]) == ("response", "incomplete", "assistant")
    assert reply["incomplete_details"] == {"reason": "max_output_tokens"} and message["status"] == "incomplete"
    usage = reply["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (chat["usage"]["prompt_tokens"], 12)
    assert usage["total_tokens"] == usage["input_tokens"] + 12 and reply["store"] is False


def test_a_stream_is_the_response_in_documented_events(v2: Any) -> None:
    events = streamed(v2)
    assert plain(together(events)) == plain(created(v2)["output"])
    assert events[-1]["type"] == "response.incomplete" and events[-1]["response"]["usage"]["output_tokens"] == 12
    assert events[0]["response"]["id"] == events[-1]["response"]["id"]


def test_logprobs_are_those_of_chat(v2: Any) -> None:
    same = v2.chat(HELLO, max_tokens=12, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    asks = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    assert created(v2, **asks)["output"][0]["content"][0]["logprobs"] == same and len(same) == 12
    events = streamed(v2, **asks)
    deltas = [each for event in events if event["type"] == "response.output_text.delta" for each in event["logprobs"]]
    [done] = [event["logprobs"] for event in events if event["type"] == "response.output_text.done"]
    assert done == same and deltas == same[: len(deltas)] != []


def test_instructions_and_items_are_read(glm4: Any) -> None:
    same = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": HELLO}]
    chat = glm4.ask("POST", "/v1/chat/completions", {"messages": same, "temperature": 0, "max_tokens": 12})[1]
    parts = [{"type": "input_text", "text": "What is "}, {"type": "input_text", "text": "2+2?"}]
    for more in (
        {"instructions": "Be brief."},
        {"input": same},
        {"instructions": "Be brief.", "input": [{"type": "message", "role": "user", "content": parts}]},
        {"instructions": "Be brief.", "input": [{"type": "reasoning", "summary": []}, same[1]]},
    ):
        reply = created(glm4, **more)
        text = "".join(part["text"] for item in reply["output"] for part in item["content"])
        assert text == chat["choices"][0]["message"]["content"]
        assert reply["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]


def test_calls_and_their_outputs(caller: Any) -> None:
    reply = created(caller, tools=[WEATHER], max_output_tokens=50)
    [call] = reply["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "get_weather", "completed")
    assert json.loads(call["arguments"]) == {"city": "北京"} and reply["status"] == "completed"
    assert plain(together(streamed(caller, tools=[WEATHER], max_output_tokens=50))) == plain(reply["output"])
    talk = [
        {"role": "user", "content": HELLO}, call,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "晴"},
    ]  # fmt: skip
    same = [
        {"role": "user", "content": HELLO},
        {"role": "assistant", "content": None, "tool_calls": [
            {"function": {"name": "get_weather", "arguments": call["arguments"]}}]},
        {"role": "tool", "content": "晴"},
    ]  # fmt: skip
    tools = [{"type": "function", "function": {name: WEATHER[name] for name in ("name", "parameters")}}]
    status, counted, _ = caller.ask("POST", COUNT, {"input": talk, "tools": [WEATHER]})
    assert status == 200, counted
    assert counted == {"object": "response.input_tokens", "input_tokens": len(caller.engine.prompt(same, tools))}
    assert created(caller, input=talk, tools=[WEATHER], max_output_tokens=50)["output"][0]["type"] == "function_call"


def test_thoughts_are_items_of_their_own(thinker: Any) -> None:
    reply = created(thinker, max_output_tokens=50)
    thought, message = reply["output"]
    assert thought["type"] == "reasoning" and thought["summary"] == []
    assert thought["content"] == [{"type": "reasoning_text", "text": "二加三。"}]
    assert message["content"][0]["text"] == "五"
    assert 0 < reply["usage"]["output_tokens_details"]["reasoning_tokens"] < reply["usage"]["output_tokens"]
    events = streamed(thinker, max_output_tokens=50)
    assert plain(together(events)) == plain(reply["output"])
    assert "response.reasoning_text.delta" in {event["type"] for event in events}


def test_the_official_client_reads_all_of_it(caller: Any, v2: Any) -> None:
    ask = {"model": "chatglm2-6b", "input": HELLO, "max_output_tokens": 12, "temperature": 0}
    text = v2.chat(HELLO, max_tokens=12)["choices"][0]["message"]["content"]
    assert v2.client().responses.create(**ask).output_text == text
    with v2.client().responses.stream(**ask) as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert said == text
    again = {**ask, "model": caller.engine.config.name, "max_output_tokens": 50, "tools": [WEATHER]}
    with caller.client().responses.stream(**again) as stream:
        [call] = stream.get_final_response().output
    assert json.loads(call.arguments) == {"city": "北京"}
    counted = v2.client().responses.input_tokens.count(model="chatglm2-6b", input=HELLO)
    assert counted.input_tokens == v2.client().responses.create(**ask).usage.input_tokens
    with pytest.raises(openai.BadRequestError, match="nothing is stored"):
        v2.client().responses.create(previous_response_id="resp_1", **ask)


def item(**fields: Any) -> dict[str, Any]:
    return asked(input=[fields, {"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "body, status, named",
    [
        (b"{", 400, "JSON"),
        ({}, 400, "input"),
        (asked(input=[]), 400, "message"),
        (asked(input=7), 400, "input"),
        (asked(max_output_tokens=0), 400, "max_output_tokens"),
        (item(role="cat", content="x"), 400, "input.0.role"),
        (item(role=["user"], content="x"), 400, "input.0.role"),
        (item(role="user", content=[{"type": "input_image", "image_url": "x"}]), 400, "input.0.content"),
        (item(role="user", content=None), 400, "input.0.content"),
        (item(type="item_reference", id="x"), 400, "nothing is stored"),
        (item(type=["message"]), 400, "input.0.type"),
        (item(type="function_call", name="f", arguments="{"), 400, "input.0"),
        (item(type="function_call", name="f", arguments="[" * 100_000), 400, "input.0"),
        (item(type="function_call_output"), 400, "input.0.output"),
        (asked(tools=[{"type": "web_search"}]), 400, "tools.0.type"),
        (asked(tools=[{"type": "function"}]), 400, "tools.0.name"),
        (asked(previous_response_id="resp_1"), 400, "previous_response_id"),
        (asked(conversation="conv_1"), 400, "conversation"),
        (asked(store=True), 400, "store"),
        (asked(background=True), 400, "background"),
        (asked(truncation="auto"), 400, "truncation"),
        (asked(top_logprobs=99), 400, "top_logprobs"),
        (asked(logprobs=True), 400, "logprobs is not supported"),
        (asked(reasoning={"effort": "low"}), 400, "reasoning.effort"),
        (asked(reasoning={"summary": "detailed"}), 400, "reasoning.summary"),
        (asked(text={"verbosity": "low"}), 400, "text.verbosity"),
        (asked(text={"format": {"type": "xml"}}), 400, "text.format"),
        (asked(temperature="hot"), 400, "temperature"),
        (asked(max_tokens=3), 400, "max_tokens is not supported"),
        (asked(messages=[]), 400, "messages is not supported"),
        (asked(n=2), 400, "n is not supported"),
        (asked(input="x " * 40_000), 400, "context"),
        (asked(model="gpt-4"), 404, "model"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_get_an_error_object(v2: Any, body: Any, status: int, named: str, stream: bool) -> None:
    body = {**body, "stream": stream} if isinstance(body, dict) else body
    got, reply, _ = v2.ask("POST", RESPONSES, body)
    assert got == status, reply
    error = reply["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert named in f"{error['message']} {error['param']}" and len(error["message"]) <= 300


def test_fields_that_change_nothing_are_taken(v2: Any) -> None:
    more = {
        "metadata": {"a": "b"}, "user": "me", "store": False, "truncation": "disabled", "tools": [], "include": [],
        "tool_choice": "auto", "parallel_tool_calls": True, "text": {"format": {"type": "text"}}, "reasoning": None,
        "service_tier": "auto", "stream_options": {"include_obfuscation": False}, "unheard_of": [1],
    }  # fmt: skip
    reply = created(v2, **more)
    assert plain(reply["output"]) == plain(created(v2)["output"]) and reply["metadata"] == {"a": "b"}
    assert (reply["temperature"], reply["top_p"]) == (0, v2.engine.config.traits.sampling[1])


def test_a_failure_in_a_stream_is_its_last_event(v2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tokens: dict[int, list[int]]) -> None:
        raise RuntimeError("the text of the prompt")

    with monkeypatch.context() as patched:
        patched.setattr(v2.engine.runner.way, "step", fail)
        last = streamed(v2)[-1]
        assert last["type"] == "response.failed" and last["response"]["status"] == "failed"
        assert last["response"]["error"]["code"] == "server_error" and "prompt" not in json.dumps(
            last["response"]["error"]
        )
        assert v2.ask("POST", RESPONSES, asked())[0] == 500
    assert created(v2)["output"]
