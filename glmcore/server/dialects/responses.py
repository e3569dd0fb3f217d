"""OpenAI's ``/v1/responses``: https://platform.openai.com/docs/api-reference/responses. Nothing is stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from glmcore.server.answers import Answers, Telling
from glmcore.server.dialects.blocks import Block, Step, steps
from glmcore.server.dialects.logprobs import chat_logprob
from glmcore.server.dialects.reading import begun, prompt_of
from glmcore.server.dialects.responses_request import CreateResponse
from glmcore.server.errors import ApiError
from glmcore.server.streams import Event, EventStream, as_json, told, unless_gone

NAMES = {"text": "output_text", "thought": "reasoning_text"}  # of a part, and of the events that tell of it
PREFIXES = {"text": "msg", "thought": "rs", "call": "fc"}


def add_responses(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/responses`` and ``POST /v1/responses/input_tokens``."""

    @app.post("/v1/responses")
    async def create(asked: CreateResponse, request: Request) -> Response:
        telling = await begun(answers, asked)
        head = Head(asked, answers)
        if asked.stream:
            return EventStream(telling.job, written(events(telling, head), head))
        return JSONResponse(await unless_gone(request, telling.job, whole(telling, head)))

    @app.post("/v1/responses/input_tokens")
    async def input_tokens(asked: CreateResponse) -> Event:
        return {"object": "response.input_tokens", "input_tokens": len(await prompt_of(answers, asked))}


class Head:
    """The object that a response is, at each moment of its life."""

    def __init__(self, asked: CreateResponse, answers: Answers) -> None:
        self.id, self.tokenizer = f"resp_{uuid.uuid4().hex}", answers.engine.tokenizer
        self.output, self.thought = list[Event](), ""
        temperature, top_p = asked.choosing(answers.engine.config.traits.sampling)
        self.same = {
            "object": "response", "created_at": int(time.time()), "model": answers.model,
            "instructions": asked.instructions, "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {}, "tools": asked.tools or [],
            "tool_choice": asked.tool_choice or "auto", "temperature": temperature, "top_p": top_p,
            "parallel_tool_calls": asked.parallel_tool_calls is not False, "previous_response_id": None,
            "store": False, "background": False, "truncation": "disabled", "service_tier": "default",
            "top_logprobs": asked.top_logprobs,
            "text": asked.text or {"format": {"type": "text"}}, "reasoning": {"effort": None, "summary": None},
        }  # fmt: skip

    def response(self, status: str, **more: Any) -> Event:
        nothing = {"error": None, "incomplete_details": None, "usage": None}
        return {"id": self.id, **self.same, "status": status, "output": self.output, **nothing, **more}

    def ended(self, telling: Telling) -> Event:
        used = usage(telling, len(self.tokenizer.encode(self.thought)) if self.thought else 0)
        if telling.finish_reason == "length":
            details = {"reason": "max_output_tokens"}
            return self.response("incomplete", incomplete_details=details, usage=used)
        return self.response("completed", usage=used)

    def failed(self, error: ApiError) -> Event:
        failure = {"code": "server_error", "message": error.body()["error"]["message"]}
        return {"type": "response.failed", "response": self.response("failed", error=failure)}


async def whole(telling: Telling, head: Head) -> Event:
    """The response at its end."""
    [*_, last] = [event async for event in events(telling, head)]
    return last["response"]


async def events(telling: Telling, head: Head) -> AsyncIterator[Event]:
    """https://platform.openai.com/docs/api-reference/responses-streaming"""
    yield {"type": "response.created", "response": head.response("in_progress")}
    yield {"type": "response.in_progress", "response": head.response("in_progress")}
    async for step, block, text in steps(telling):
        new = [] if step is Step.BEGIN else [chat_logprob(head.tokenizer, each) for each in telling.logprobs()]
        block.logprobs += new
        if step is Step.BEGIN:
            made = began(block)
        elif step is Step.PART:
            made = [told_of(block, "delta", new, delta=text)]
        else:
            cut = telling.ended and telling.finish_reason == "length"
            made = finished(block, "incomplete" if cut else "completed")
            head.output = [*head.output, made[-1]["item"]]
            head.thought += block.text if block.kind == "thought" else ""
        for event in made:
            yield event
    response = head.ended(telling)
    yield {"type": f"response.{response['status']}", "response": response}


async def written(events: AsyncIterator[Event], head: Head) -> AsyncIterator[dict[str, str]]:
    number = 0
    async for event in told(events, head.failed):
        yield {"event": event["type"], "data": as_json({**event, "sequence_number": number})}
        number += 1


def began(block: Block) -> list[Event]:
    added = {"type": "response.output_item.added", "output_index": block.number, "item": item(block, "in_progress")}
    if block.kind == "call":
        return [added]
    return [added, {"type": "response.content_part.added", **place(block), "part": part(block)}]


def finished(block: Block, status: str) -> list[Event]:
    done = {"type": "response.output_item.done", "output_index": block.number, "item": item(block, status)}
    if block.kind == "call":
        return [told_of(block, "done", [], name=block.name, arguments=block.text), done]
    whole = {"type": "response.content_part.done", **place(block), "part": part(block)}
    return [told_of(block, "done", block.logprobs, text=block.text), whole, done]


def told_of(block: Block, what: str, logprobs: list[Event], **more: Any) -> Event:
    """That a piece of the block has come, or all of it. Only texts are told with logprobs."""
    name = NAMES.get(block.kind, "function_call_arguments")
    scored = {"logprobs": logprobs} if block.kind == "text" else {}
    return {"type": f"response.{name}.{what}", **place(block), **more, **scored}


def place(block: Block) -> Event:
    """Where in the output an event belongs."""
    where = {"item_id": id_of(block), "output_index": block.number}
    return where if block.kind == "call" else {**where, "content_index": 0}


def part(block: Block) -> Event:
    plain = {"type": NAMES[block.kind], "text": block.text}
    return {**plain, "annotations": [], "logprobs": block.logprobs} if block.kind == "text" else plain


def item(block: Block, status: str) -> Event:
    """An item of the output as far as it has come."""
    head = {"id": id_of(block), "status": status}
    content = [] if status == "in_progress" else [part(block)] if block.kind != "call" else None
    if block.kind == "text":
        return {**head, "type": "message", "role": "assistant", "content": content}
    if block.kind == "thought":
        return {**head, "type": "reasoning", "summary": [], "content": content}
    call = {"call_id": f"call_{block.id[:24]}", "name": block.name, "arguments": block.text}
    return {**head, "type": "function_call", **call}


def id_of(block: Block) -> str:
    return f"{PREFIXES[block.kind]}_{block.id}"


def usage(telling: Telling, reasoning: int) -> Event:
    stats = telling.ending.stats
    return {
        "input_tokens": stats.prompt_tokens,
        "input_tokens_details": {"cached_tokens": stats.reused_tokens, "cache_write_tokens": 0},
        "output_tokens": stats.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": stats.prompt_tokens + stats.generated_tokens,
    }
