"""The official client of Anthropic: https://github.com/anthropics/anthropic-sdk-python"""

from __future__ import annotations

import json

import anthropic
from calls import ASKED, COLOUR, HELLO, KEY, MODEL, PAINT, URL, call, is_colour, main

client = anthropic.Anthropic(base_url=URL, api_key=KEY)
asked = {"model": MODEL, "messages": ASKED, "max_tokens": 200}
greedy = {"extra_body": {"temperature": 0}}
TOOL = {"name": "paint", "description": PAINT["description"], "input_schema": COLOUR}


@call
def message_and_its_stream() -> None:
    whole = client.messages.create(**asked, **greedy)
    with client.messages.stream(**asked, **greedy) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said and said == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens > 0


@call
def raw_events() -> None:
    kinds = [event.type for event in client.messages.create(**asked, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@call
async def async_message_and_its_stream() -> None:
    async with anthropic.AsyncAnthropic(base_url=URL, api_key=KEY) as other:
        whole = await other.messages.create(**asked, **greedy)
        async with other.messages.stream(**asked, **greedy) as stream:
            final = await stream.get_final_message()
    assert final.content[0].text == whole.content[0].text


@call
def system_and_stop_sequences() -> None:
    text = client.messages.create(**asked, **greedy).content[0].text
    stop = text[3:6]
    cut = client.messages.create(**asked, **greedy, stop_sequences=[stop])
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", stop)
    assert client.messages.create(**asked, system=[{"type": "text", "text": "Be brief."}]).content


@call
def a_tool_that_must_be_called_and_its_result() -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "paint"}):
        message = client.messages.create(**asked, tools=[TOOL], tool_choice=choice)
        [block] = [block for block in message.content if block.type == "tool_use"]
        assert message.stop_reason == "tool_use" and block.name == "paint" and is_colour(block.input)
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "done"}
    talk = [*ASKED, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(model=MODEL, max_tokens=20, messages=talk, tools=[TOOL]).id


@call
def a_streamed_tool_call() -> None:
    with client.messages.stream(**asked, tools=[TOOL], tool_choice={"type": "any"}) as stream:
        message = stream.get_final_message()
    assert is_colour(next(block.input for block in message.content if block.type == "tool_use"))


@call
def an_answer_held_to_a_schema() -> None:
    form = {"format": {"type": "json_schema", "schema": COLOUR}}
    assert is_colour(json.loads(client.messages.create(**asked, output_config=form).content[0].text))


@call
def count_tokens() -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=ASKED).input_tokens
    usage = client.messages.create(**asked).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


@call
def errors() -> None:
    for kind, other in (
        (anthropic.NotFoundError, {"model": "claude"}),
        (anthropic.BadRequestError, {"messages": [{"role": "cat", "content": HELLO}]}),
    ):
        try:
            client.messages.create(**{**asked, **other})
        except kind as error:
            assert error.body["error"]["message"]
        else:
            raise AssertionError(f"no {kind.__name__}")
    try:
        client.with_options(api_key="wrong").messages.create(**asked)
    except anthropic.AuthenticationError:
        return
    raise AssertionError("any key is taken")


main()
