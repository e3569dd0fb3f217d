"""instructor, which makes objects of answers: https://github.com/567-labs/instructor"""

from __future__ import annotations

from typing import Literal

import instructor
import openai
from calls import ASKED, KEY, MODEL, URL, call, main
from pydantic import BaseModel, ConfigDict

SERVER = {"base_url": f"{URL}/v1", "api_key": KEY}


class Colour(BaseModel):
    """A colour, and how many; with anything else beside it an answer of the demo model hardly ends."""

    model_config = ConfigDict(extra="forbid")

    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


def made(mode: instructor.Mode) -> Colour:
    client = instructor.from_openai(openai.OpenAI(**SERVER), mode=mode)
    return client.chat.completions.create(model=MODEL, messages=ASKED, response_model=Colour, max_retries=0)


@call
def json_schema() -> None:
    assert isinstance(made(instructor.Mode.JSON_SCHEMA), Colour)


@call
def tools() -> None:
    assert isinstance(made(instructor.Mode.TOOLS), Colour)


@call
def tools_strict() -> None:
    assert isinstance(made(instructor.Mode.TOOLS_STRICT), Colour)


@call
async def async_json_schema() -> None:
    client = instructor.from_openai(openai.AsyncOpenAI(**SERVER), mode=instructor.Mode.JSON_SCHEMA)
    answer = await client.chat.completions.create(model=MODEL, messages=ASKED, response_model=Colour, max_retries=0)
    assert isinstance(answer, Colour)


@call
def partial_objects_of_a_stream() -> None:
    client = instructor.from_openai(openai.OpenAI(**SERVER), mode=instructor.Mode.JSON_SCHEMA)
    *_, last = client.chat.completions.create_partial(model=MODEL, messages=ASKED, response_model=Colour)
    assert last.colour in ("red", "green")


main()
