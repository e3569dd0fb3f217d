"""LangChain's ChatOpenAI, OpenAI and OpenAIEmbeddings: https://github.com/langchain-ai/langchain"""

from __future__ import annotations

from typing import Literal

from calls import HELLO, KEY, MODEL, URL, call, main
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict

SERVER = {"base_url": f"{URL}/v1", "api_key": KEY, "model": MODEL}
chat = ChatOpenAI(**SERVER, temperature=0)


class Colour(BaseModel):
    """A colour, and how many; with anything else beside it an answer of the demo model hardly ends."""

    model_config = ConfigDict(extra="forbid")

    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


@tool(args_schema=Colour)
def paint(colour: str, count: int) -> str:
    """Paints so many walls."""
    return f"{count} {colour}"


@call
def invoke_and_stream() -> None:
    whole = chat.invoke([SystemMessage("Be brief."), HumanMessage(HELLO)])
    said = "".join(chunk.content for chunk in chat.stream([SystemMessage("Be brief."), HumanMessage(HELLO)]))
    assert said and said == whole.content and whole.usage_metadata["output_tokens"] > 0


@call
async def async_invoke_and_stream() -> None:
    whole = await chat.ainvoke(HELLO)
    assert whole.content == "".join([chunk.content async for chunk in chat.astream(HELLO)])


@call
def batch() -> None:
    first, second, third = chat.batch([HELLO, "What is a driver?", HELLO])
    assert first.content == third.content and second.content


@call
def structured_output() -> None:
    assert isinstance(chat.with_structured_output(Colour, method="json_schema").invoke(HELLO), Colour)


@call
def structured_output_by_a_function() -> None:
    assert isinstance(chat.with_structured_output(Colour, method="function_calling").invoke(HELLO), Colour)


@call
def tools_and_results() -> None:
    bound = chat.bind_tools([paint], tool_choice="any", strict=True)
    answer = bound.invoke(HELLO)
    [made] = answer.tool_calls
    result = ToolMessage(paint.invoke(made["args"]), tool_call_id=made["id"])
    assert ChatOpenAI(**SERVER, max_tokens=20).bind_tools([paint]).invoke([HumanMessage(HELLO), answer, result])


@call
def a_streamed_tool_call() -> None:
    whole = None
    for chunk in chat.bind_tools([paint], tool_choice="paint", strict=True).stream(HELLO):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["name"] == "paint" and whole.tool_calls[0]["args"]["colour"] in ("red", "green")


@call
def the_responses_api() -> None:
    other = ChatOpenAI(**SERVER, temperature=0, use_responses_api=True)
    whole = other.invoke(HELLO)
    said = "".join(chunk.text for chunk in other.stream(HELLO))
    assert said and said == whole.text


@call
def logprobs() -> None:
    answer = ChatOpenAI(**SERVER, max_tokens=3, logprobs=True, top_logprobs=2).invoke(HELLO)
    assert len(answer.response_metadata["logprobs"]["content"]) >= 1


@call
def completions() -> None:
    assert OpenAI(**SERVER, max_tokens=5, temperature=0).generate(["a", "b"]).generations[1]


@call
def embeddings() -> None:
    made = OpenAIEmbeddings(**SERVER, check_embedding_ctx_length=False).embed_documents(["one", "two"])
    assert len(made) == 2 and made[0] != made[1]


main()
