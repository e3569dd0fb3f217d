"""The official client of OpenAI: https://github.com/openai/openai-python"""

from __future__ import annotations

import json
from typing import Literal

import openai
from calls import ASKED, COLOUR, HELLO, KEY, MODEL, PAINT, URL, call, is_colour, main
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
chat = {"model": MODEL, "messages": ASKED, "temperature": 0}
TOOL = {"type": "function", "function": PAINT}


class Colour(BaseModel):
    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


@call
def chat_and_its_stream() -> None:
    whole = client.chat.completions.create(**chat)
    stream = client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said and said == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0


@call
def stream_helper() -> None:
    with client.chat.completions.stream(**chat) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
    assert text == stream.get_final_completion().choices[0].message.content


@call
async def async_chat_and_its_stream() -> None:
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as other:
        whole = await other.chat.completions.create(**chat)
        stream = await other.chat.completions.create(**chat, stream=True)
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert said and said == whole.choices[0].message.content


@call
def parse_with_pydantic() -> None:
    parsed = client.chat.completions.parse(**chat, response_format=Colour).choices[0].message.parsed
    assert isinstance(parsed, Colour)


@call
def json_object() -> None:
    settings = {"response_format": {"type": "json_object"}, "max_tokens": 400}
    for seed in range(3):
        choice = client.chat.completions.create(**{**chat, "temperature": 1}, seed=seed, **settings).choices[0]
        assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)


@call
def a_tool_that_must_be_called() -> None:
    for choice in ("required", {"type": "function", "function": {"name": "paint"}}):
        message = client.chat.completions.create(**chat, tools=[TOOL], tool_choice=choice).choices[0].message
        assert message.tool_calls and message.tool_calls[0].function.name == "paint"
        assert is_colour(json.loads(message.tool_calls[0].function.arguments))


@call
def a_streamed_tool_call_and_its_result() -> None:
    with client.chat.completions.stream(**chat, tools=[TOOL], tool_choice="required") as stream:
        message = stream.get_final_completion().choices[0].message
    assert is_colour(json.loads(message.tool_calls[0].function.arguments))
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "done"}
    talk = [*ASKED, message.model_dump(exclude_none=True), result]
    assert client.chat.completions.create(model=MODEL, messages=talk, tools=[TOOL], max_tokens=20).choices


@call
def completions_with_logprobs_and_several() -> None:
    answer = client.completions.create(model=MODEL, prompt=["a", "b"], max_tokens=3, n=2, logprobs=1)
    assert len(answer.choices) == 4 and all(choice.logprobs.token_logprobs for choice in answer.choices)


@call
def responses_and_their_stream() -> None:
    whole = client.responses.create(model=MODEL, input=HELLO, temperature=0)
    with client.responses.stream(model=MODEL, input=HELLO, temperature=0) as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert said and said == whole.output_text == final.output_text


@call
def responses_parse_with_pydantic() -> None:
    parsed = client.responses.parse(model=MODEL, input=HELLO, text_format=Colour)
    assert isinstance(parsed.output_parsed, Colour)


@call
def responses_with_a_tool() -> None:
    tool = {"type": "function", "strict": True, **PAINT}
    answer = client.responses.create(model=MODEL, input=HELLO, tools=[tool], tool_choice="required")
    [made] = [item for item in answer.output if item.type == "function_call"]
    assert made.name == "paint" and is_colour(json.loads(made.arguments))
    result = {"type": "function_call_output", "call_id": made.call_id, "output": "done"}
    talk = [{"role": "user", "content": HELLO}, made, result]
    assert client.responses.create(model=MODEL, input=talk, tools=[tool], max_output_tokens=20).status


@call
async def async_responses() -> None:
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY) as other:
        stream = await other.responses.create(model=MODEL, input=HELLO, stream=True, max_output_tokens=5)
        kinds = [event.type async for event in stream]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")


@call
def embeddings() -> None:
    found = client.embeddings.create(model=MODEL, input=["one", "two"])
    assert len(found.data) == 2 and len(found.data[0].embedding) == len(found.data[1].embedding) > 0


@call
def models() -> None:
    assert [model.id for model in client.models.list()] == [MODEL] == [client.models.retrieve(MODEL).id]


@call
def errors() -> None:
    for kind, ask in (
        (openai.NotFoundError, {**chat, "model": "gpt-4"}),
        (openai.BadRequestError, {**chat, "temperature": -1}),
        (openai.BadRequestError, {**chat, "response_format": {"type": "xml"}}),
    ):
        try:
            client.chat.completions.create(**ask)
        except kind as error:
            assert error.body["message"]
        else:
            raise AssertionError(f"no {kind.__name__}")
    try:
        client.with_options(api_key="wrong").models.list()
    except openai.AuthenticationError:
        return
    raise AssertionError("any key is taken")


assert COLOUR
main()
