"""How answers reach their clients: as a stream or whole, and given up when the client goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from sse_starlette import EventSourceResponse
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from glmcore.errors import GlmError
from glmcore.server.errors import ApiError, from_glm_error
from glmcore.server.line import Job

# Seconds after which a connection is cut once the server is told to end; before that answers are ended in good form.
CUT_S = 7

Event = dict[str, Any]
Whole = TypeVar("Whole")


class EventStream(EventSourceResponse):
    """Server-sent events; gives its job up when the client goes, however early that is."""

    def __init__(self, job: Job, events: AsyncIterator[dict[str, str]]) -> None:
        super().__init__(events, sep="\n", shutdown_grace_period=CUT_S)
        self.job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.cancel()


class LineStream(StreamingResponse):
    """Lines of JSON; gives its job up when the client goes."""

    def __init__(self, job: Job, lines: AsyncIterator[str]) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self.job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.cancel()


async def told(events: AsyncIterator[Event], failed: Callable[[ApiError], Event]) -> AsyncIterator[Event]:
    """The events; a failure is the last of them, for the status has been sent already."""
    try:
        async for event in events:
            yield event
    except GlmError as error:
        yield failed(from_glm_error(error))
    except ApiError as error:
        yield failed(error)


def as_json(data: Event) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


async def unless_gone(request: Request, job: Job, whole: Awaitable[Whole]) -> Whole:
    """What is awaited; its job is given up when the client goes or the server ends."""
    watch = asyncio.create_task(cancel_when_gone(request, job))
    try:
        return await whole
    finally:
        watch.cancel()
        job.cancel()


async def cancel_when_gone(request: Request, job: Job) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()
