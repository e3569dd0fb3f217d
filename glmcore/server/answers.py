"""From a request that was understood to its response: the engine's answer, whole or as a stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from glmcore.chat.messages import Call
from glmcore.engine.engine import Engine
from glmcore.engine.sequence import budget
from glmcore.errors import GlmError
from glmcore.server import replies
from glmcore.server.deltas import Delta, Deltas
from glmcore.server.errors import ApiError, from_glm_error
from glmcore.server.line import Job, Line, Task
from glmcore.server.schemas import ChatRequest, CompletionRequest, Settings

# Where a request does not say how long an answer may be.
CHAT_TOKENS, COMPLETION_TOKENS = 2048, 16
# Seconds after which a connection is cut once the server is told to end; before that answers are ended in good form.
CUT_S = 7

Event = dict[str, Any]


def check_model(engine: Engine, name: str | None) -> None:
    """Errors: ApiError(404) for the name of another model."""
    if name is not None and name != engine.config.name:
        message = f"there is no model of this name here, only {engine.config.name}"
        raise ApiError(404, message, param="model", code="model_not_found")


class Answers:
    """From a request that was understood to its response."""

    def __init__(self, engine: Engine, line: Line) -> None:
        self.engine, self.line = engine, line

    async def chat(self, asked: ChatRequest, request: Request) -> Response:
        tools = asked.tool_names
        limit = asked.max_completion_tokens or asked.max_tokens or CHAT_TOKENS
        job = await self.job(
            asked, lambda: self.engine.prompt(asked.messages, asked.offered), limit, several=bool(tools)
        )
        head = replies.Head("chat.completion", self.engine.config.name)
        deltas = Deltas(self.engine.config.generation, tools)
        if asked.stream:
            return EventStream(job, chat_events(job, head, deltas, asked.wants_usage))
        return JSONResponse(await unless_gone(request, job, chat_reply(job, head, deltas)))

    async def complete(self, asked: CompletionRequest, request: Request) -> Response:
        limit = asked.max_tokens or COMPLETION_TOKENS
        tokenizer = self.engine.tokenizer
        job = await self.job(asked, lambda: tokenizer.encode(asked.text, add_special_tokens=True), limit)
        head = replies.Head("text_completion", self.engine.config.name)
        if asked.stream:
            return EventStream(job, completion_events(job, head, asked.wants_usage))
        return JSONResponse(await unless_gone(request, job, completion_reply(job, head)))

    async def job(self, asked: Settings, prompt: Callable[[], list[int]], limit: int, *, several: bool = False) -> Job:
        """The request in the line. What is wrong with it is said before it waits; ``prompt`` may take a while."""
        check_model(self.engine, asked.model)
        asked.check()
        sampling = self.engine.sampling(asked.temperature, asked.top_p, asked.seed, **asked.choosing)
        ids = await asyncio.to_thread(prompt)
        allowed = budget(len(ids), limit, self.engine.context)
        return self.line.join(Task(tuple(ids), allowed, sampling, asked.stops, several))


class EventStream(EventSourceResponse):
    """A stream of events that gives its job up when the client goes, however early that is."""

    def __init__(self, job: Job, events: AsyncIterator[Event]) -> None:
        super().__init__(told(events), sep="\n", shutdown_grace_period=CUT_S)
        self.job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.cancel()


async def told(events: AsyncIterator[Event]) -> AsyncIterator[dict[str, str]]:
    """The events as JSON; a failure is the last of them, for the status has been sent already."""
    try:
        async for event in events:
            yield {"data": as_json(event)}
    except GlmError as error:
        yield {"data": as_json(from_glm_error(error).body())}
    except ApiError as error:
        yield {"data": as_json(error.body())}
    yield {"data": "[DONE]"}


def as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


async def unless_gone(request: Request, job: Job, reply: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The reply; its job is given up when the client goes or the server ends."""
    watch = asyncio.create_task(cancel_when_gone(request, job))
    try:
        return await reply
    finally:
        watch.cancel()
        job.cancel()


async def cancel_when_gone(request: Request, job: Job) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()


async def all_deltas(job: Job, deltas: Deltas) -> AsyncIterator[Delta]:
    async for text in job.pieces():
        for delta in deltas.push(text):
            yield delta
    for delta in deltas.finish():
        yield delta


def finish_reason(job: Job, deltas: Deltas | None = None) -> str:
    assert job.ending is not None
    return "tool_calls" if deltas and deltas.calls else job.ending.finish_reason


def usage(job: Job) -> dict[str, Any]:
    assert job.ending is not None
    return replies.usage(job.ending.stats)


async def chat_reply(job: Job, head: replies.Head, deltas: Deltas) -> dict[str, Any]:
    message = replies.message([delta async for delta in all_deltas(job, deltas)])
    return head.reply([replies.chat_choice(finish_reason(job, deltas), message=message)], usage=usage(job))


async def chat_events(job: Job, head: replies.Head, deltas: Deltas, wants_usage: bool) -> AsyncIterator[Event]:
    def event(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return head.chunk([replies.chat_choice(reason, delta=delta)])

    yield event({"role": "assistant", "content": ""})
    calls = 0
    async for delta in all_deltas(job, deltas):
        yield event(replies.chat_delta(delta, calls))
        calls += isinstance(delta, Call)
    yield event({}, finish_reason(job, deltas))
    if wants_usage:
        yield head.chunk([], usage=usage(job))


async def completion_reply(job: Job, head: replies.Head) -> dict[str, Any]:
    text = "".join([piece async for piece in job.pieces()])
    return head.reply([replies.text_choice(text, finish_reason(job))], usage=usage(job))


async def completion_events(job: Job, head: replies.Head, wants_usage: bool) -> AsyncIterator[Event]:
    async for piece in job.pieces():
        yield head.chunk([replies.text_choice(piece, None)])
    yield head.chunk([replies.text_choice("", finish_reason(job))])
    if wants_usage:
        yield head.chunk([], usage=usage(job))
