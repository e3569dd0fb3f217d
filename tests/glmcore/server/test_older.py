"""OpenAI's older form of tools through its own client: ``functions`` in, ``function_call`` out."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("llguidance")
openai = pytest.importorskip("openai")

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "北京天气？"}
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def created(server: Any, **more: Any) -> Any:
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=server.key, max_retries=0)
    return client.chat.completions.create(
        **{"model": server.engine.config.name, "messages": [USER], "temperature": 0, "functions": [WEATHER], **more}
    )


@pytest.mark.parametrize("choice", ["auto", {"name": "get_weather"}])
def test_a_function_is_called_and_its_result_goes_back(caller: Any, choice: Any) -> None:
    answer = created(caller, function_call=choice).choices[0]
    call = answer.message.function_call
    assert (answer.finish_reason, answer.message.content, answer.message.tool_calls) == ("function_call", None, None)
    assert call.name == "get_weather" and json.loads(call.arguments) == {"city": "北京"}
    result = {"role": "function", "name": "get_weather", "content": "晴"}
    again = created(caller, messages=[USER, answer.message.model_dump(exclude_none=True), result]).choices[0]
    assert again.message.function_call == call


def test_a_call_comes_in_pieces(caller: Any) -> None:
    choices = [chunk.choices[0] for chunk in created(caller, stream=True)]
    first, *more = [choice.delta.function_call for choice in choices if choice.delta.function_call]
    assert (first.name, first.arguments) == ("get_weather", "") and not any(call.name for call in more)
    assert len(more) > 1 and json.loads("".join(call.arguments for call in more)) == {"city": "北京"}
    assert choices[-1].finish_reason == "function_call" and not any(choice.delta.tool_calls for choice in choices)


def test_a_function_that_may_not_be_called_is_not(caller: Any) -> None:
    answer = created(caller, function_call="none").choices[0]
    assert answer.finish_reason == "stop" and answer.message.content == 'get_weather\n{"city": "北京"}'


@pytest.mark.parametrize(
    "more, param",
    [
        ({"function_call": {"name": "other"}}, "function_call"),
        ({"function_call": "required"}, "function_call"),
        ({"function_call": {}}, "function_call"),
        ({"functions": None, "function_call": "auto"}, "function_call"),
        ({"tools": [{"type": "function", "function": WEATHER}]}, "functions"),
        ({"functions": [WEATHER, WEATHER]}, "functions[1]"),
        ({"functions": [{"name": "f", "parameters": {"type": "array"}}]}, "functions[0].parameters"),
        ({"functions": "all"}, "functions"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_in_the_same_words(caller: Any, more: dict[str, Any], param: str) -> None:
    status, reply, _ = caller.ask("POST", CHAT, {"messages": [USER], "functions": [WEATHER], **more})
    assert status == 400 and reply["error"]["param"] == param, reply
