"""litellm, by each of its providers that speaks to a server of one's own: https://github.com/BerriAI/litellm"""

from __future__ import annotations

import json
from typing import Any

import litellm
from calls import ASKED, COLOUR, HELLO, KEY, MODEL, PAINT, URL, call, is_colour, main

litellm.telemetry = False
OPENAI = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": KEY}
ANTHROPIC = {"model": f"anthropic/{MODEL}", "api_base": URL, "api_key": KEY}
# Sent as no JSON by itself, which a server that web pages must not use does not take.
OLLAMA = {
    "model": f"ollama_chat/{MODEL}", "api_base": URL, "api_key": KEY,
    "extra_headers": {"Content-Type": "application/json"},
}  # fmt: skip
TOOL = {"type": "function", "function": PAINT}
FORM = {"type": "json_schema", "json_schema": {"name": "colour", "schema": COLOUR, "strict": True}}


def chat_and_its_stream(provider: dict[str, Any]) -> None:
    asked = {**provider, "messages": ASKED, "temperature": 0, "max_tokens": 200}
    whole = litellm.completion(**asked).choices[0].message.content
    said = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**asked, stream=True))
    assert said and said == whole


@call
def openai_chat_and_its_stream() -> None:
    chat_and_its_stream(OPENAI)


@call
def anthropic_chat_and_its_stream() -> None:
    chat_and_its_stream(ANTHROPIC)


@call
def ollama_chat_and_its_stream() -> None:
    chat_and_its_stream(OLLAMA)


@call
async def async_chat_and_its_stream() -> None:
    asked = {**OPENAI, "messages": ASKED, "temperature": 0}
    whole = (await litellm.acompletion(**asked)).choices[0].message.content
    parts = [chunk.choices[0].delta.content or "" async for chunk in await litellm.acompletion(**asked, stream=True)]
    assert whole == "".join(parts)


@call
def text_completion() -> None:
    about = {**OPENAI, "model": f"text-completion-openai/{MODEL}"}
    assert litellm.text_completion(**about, prompt="a", max_tokens=5).choices[0].text is not None


@call
def an_answer_held_to_a_schema() -> None:
    answer = litellm.completion(**OPENAI, messages=ASKED, response_format=FORM)
    assert is_colour(json.loads(answer.choices[0].message.content))


@call
def a_schema_by_ollama() -> None:
    answer = litellm.completion(**OLLAMA, messages=ASKED, response_format=FORM, max_tokens=200)
    assert is_colour(json.loads(answer.choices[0].message.content))


@call
def a_tool_that_must_be_called() -> None:
    answer = litellm.completion(**OPENAI, messages=ASKED, tools=[TOOL], tool_choice="required")
    [made] = answer.choices[0].message.tool_calls
    assert made.function.name == "paint" and is_colour(json.loads(made.function.arguments))


@call
def a_tool_that_must_be_called_by_anthropic() -> None:
    answer = litellm.completion(**ANTHROPIC, messages=ASKED, tools=[TOOL], tool_choice="required", max_tokens=200)
    [made] = answer.choices[0].message.tool_calls
    assert made.function.name == "paint" and is_colour(json.loads(made.function.arguments))


@call
def responses() -> None:
    answer = litellm.responses(**OPENAI, input=HELLO, max_output_tokens=20)
    assert answer.output[0].content[0].text


@call
def embedding() -> None:
    assert len(litellm.embedding(**OPENAI, input=["one", "two"]).data) == 2


@call
def errors() -> None:
    for provider in (OPENAI, ANTHROPIC, OLLAMA):
        try:
            litellm.completion(**{**provider, "model": provider["model"] + "-other"}, messages=ASKED, max_tokens=5)
        except (litellm.NotFoundError, litellm.APIConnectionError, litellm.BadRequestError):
            continue
        raise AssertionError(f"no error of {provider['model']}")


main()
