"""OpenAI's chat and completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from glmcore.chat.messages import Call
from glmcore.server import replies
from glmcore.server.answers import Answers, Telling
from glmcore.server.errors import ApiError
from glmcore.server.schemas import ChatRequest, CompletionRequest
from glmcore.server.streams import Event, EventStream, as_json, told, unless_gone


def add_openai(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/chat/completions`` and ``POST /v1/completions``."""

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        telling, head = await answers.chat(asked), replies.Head("chat.completion", answers.model)
        if asked.stream:
            return EventStream(telling.job, written(chat_events(telling, head, asked.wants_usage)))
        return JSONResponse(await unless_gone(request, telling.job, chat_reply(telling, head)))

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        telling, head = await answers.complete(asked), replies.Head("text_completion", answers.model)
        if asked.stream:
            return EventStream(telling.job, written(completion_events(telling, head, asked.wants_usage)))
        return JSONResponse(await unless_gone(request, telling.job, completion_reply(telling, head)))


async def written(events: AsyncIterator[Event]) -> AsyncIterator[dict[str, str]]:
    async for event in told(events, ApiError.body):
        yield {"data": as_json(event)}
    yield {"data": "[DONE]"}


async def chat_reply(telling: Telling, head: replies.Head) -> Event:
    message = replies.message([delta async for delta in telling])
    choice = replies.chat_choice(telling.finish_reason, message=message)
    return head.reply([choice], usage=replies.usage(telling.ending.stats))


async def chat_events(telling: Telling, head: replies.Head, wants_usage: bool) -> AsyncIterator[Event]:
    def event(delta: Event, reason: str | None = None) -> Event:
        return head.chunk([replies.chat_choice(reason, delta=delta)])

    yield event({"role": "assistant", "content": ""})
    calls = 0
    async for delta in telling:
        yield event(replies.chat_delta(delta, calls))
        calls += isinstance(delta, Call)
    yield event({}, telling.finish_reason)
    if wants_usage:
        yield head.chunk([], usage=replies.usage(telling.ending.stats))


async def completion_reply(telling: Telling, head: replies.Head) -> Event:
    text = "".join([str(piece) async for piece in telling])
    choice = replies.text_choice(text, telling.finish_reason)
    return head.reply([choice], usage=replies.usage(telling.ending.stats))


async def completion_events(telling: Telling, head: replies.Head, wants_usage: bool) -> AsyncIterator[Event]:
    async for piece in telling:
        yield head.chunk([replies.text_choice(str(piece), None)])
    yield head.chunk([replies.text_choice("", telling.finish_reason)])
    if wants_usage:
        yield head.chunk([], usage=replies.usage(telling.ending.stats))
