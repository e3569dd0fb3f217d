"""The official client of Ollama: https://github.com/ollama/ollama-python"""

from __future__ import annotations

import json

import ollama
from calls import ASKED, COLOUR, HELLO, KEY, MODEL, PAINT, URL, call, is_colour, main

HEADERS = {"Authorization": f"Bearer {KEY}"}
client = ollama.Client(URL, headers=HEADERS)
greedy = {"temperature": 0, "num_predict": 200}
TOOL = {"type": "function", "function": PAINT}


@call
def chat_and_its_stream() -> None:
    whole = client.chat(MODEL, ASKED, options=greedy)
    parts = list(client.chat(MODEL, ASKED, options=greedy, stream=True))
    assert whole.message.content == "".join(part.message.content for part in parts)
    assert parts[-1].done and parts[-1].eval_count == whole.eval_count > 0 and whole.total_duration > 0


@call
async def async_chat_and_its_stream() -> None:
    other = ollama.AsyncClient(URL, headers=HEADERS)
    whole = await other.chat(MODEL, ASKED, options=greedy)
    parts = [part.message.content async for part in await other.chat(MODEL, ASKED, options=greedy, stream=True)]
    assert whole.message.content == "".join(parts)


@call
def generate_and_its_stream() -> None:
    whole = client.generate(MODEL, HELLO, system="Be brief.", options=greedy)
    parts = client.generate(MODEL, HELLO, system="Be brief.", options=greedy, stream=True)
    assert whole.response and whole.response == "".join(part.response for part in parts)
    assert client.generate(MODEL, HELLO, raw=True, options=greedy).done


@call
def an_answer_held_to_a_schema() -> None:
    assert is_colour(json.loads(client.chat(MODEL, ASKED, format=COLOUR).message.content))
    assert is_colour(json.loads(client.generate(MODEL, HELLO, format=COLOUR).response))


@call
def json_object() -> None:
    answer = client.chat(MODEL, ASKED, format="json", options={"num_predict": 400})
    assert answer.done_reason == "length" or isinstance(json.loads(answer.message.content), dict)


@call
def tools_and_results() -> None:
    answer = client.chat(MODEL, ASKED, tools=[TOOL], options=greedy)
    made = answer.message.tool_calls or []
    assert answer.message.content or made
    calls = [{"function": {"name": "paint", "arguments": {"colour": "red", "count": 3}}}]
    talk = [*ASKED, {"role": "assistant", "content": "", "tool_calls": calls}]
    talk.append({"role": "tool", "tool_name": "paint", "content": "done"})
    assert client.chat(MODEL, talk, tools=[TOOL], options={"num_predict": 20}).done


@call
def what_is_there() -> None:
    assert [model.model for model in client.list().models] == [MODEL]
    shown = client.show(MODEL)
    assert "completion" in shown.capabilities and shown.details.family


@call
def errors() -> None:
    for status, ask in (
        (404, lambda: client.chat("llama3", ASKED)),
        (400, lambda: client.chat(MODEL, ASKED, options={"temperature": -1})),
        (401, lambda: ollama.Client(URL).chat(MODEL, ASKED)),
        (404, lambda: list(client.chat("llama3", ASKED, stream=True))),
    ):
        try:
            ask()
        except ollama.ResponseError as error:
            assert error.status_code == status and error.error
        else:
            raise AssertionError(f"no {status}")


main()
