"""Anthropic's ``/v1/messages``: https://platform.claude.com/docs/en/api/messages."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from glmcore.server.answers import Answers, Telling
from glmcore.server.dialects.anthropic_request import CountTokens, CreateMessage
from glmcore.server.dialects.blocks import Block, Step, blocks, steps
from glmcore.server.dialects.failures import anthropic as failure
from glmcore.server.dialects.reading import begun, prompt_of
from glmcore.server.streams import Event, EventStream, as_json, told, unless_gone


def add_anthropic(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/messages`` and ``POST /v1/messages/count_tokens``."""
    thinks = answers.engine.config.traits.thinks

    @app.post("/v1/messages")
    async def create(asked: CreateMessage, request: Request) -> Response:
        asked.check_thinking(thinks)
        telling, head = await begun(answers, asked), Head(answers.model)
        if asked.stream:
            return EventStream(telling.job, written(events(telling, head)))
        return JSONResponse(await unless_gone(request, telling.job, message(telling, head)))

    @app.post("/v1/messages/count_tokens")
    async def count_tokens(asked: CountTokens) -> dict[str, int]:
        asked.check_thinking(thinks)
        return {"input_tokens": len(await prompt_of(answers, asked))}


class Head:
    """What a message says of itself beside its content."""

    def __init__(self, model: str) -> None:
        self.id, self.model = f"msg_{uuid.uuid4().hex}", model

    def message(self, content: list[Event], ended: Event, usage: Event) -> Event:
        head = {"id": self.id, "type": "message", "role": "assistant", "model": self.model}
        return {**head, "content": content, **ended, "usage": usage}


async def message(telling: Telling, head: Head) -> Event:
    content = [content_block(block) for block in await blocks(telling)]
    return head.message(content, ended(telling), usage(telling))


async def events(telling: Telling, head: Head) -> AsyncIterator[Event]:
    """https://platform.claude.com/docs/en/build-with-claude/streaming"""
    begin = {"stop_reason": None, "stop_sequence": None}
    tokens = {"input_tokens": telling.answer.stats.prompt_tokens, "output_tokens": 0}
    yield {"type": "message_start", "message": head.message([], begin, tokens)}
    async for step, block, text in steps(telling):
        if step is Step.BEGIN:
            yield {"type": "content_block_start", "index": block.number, "content_block": begun_block(block)}
        elif step is Step.PART:
            yield {"type": "content_block_delta", "index": block.number, "delta": delta(block, text)}
        else:
            if block.kind == "thought":
                signed = {"type": "signature_delta", "signature": ""}
                yield {"type": "content_block_delta", "index": block.number, "delta": signed}
            yield {"type": "content_block_stop", "index": block.number}
    yield {"type": "message_delta", "delta": ended(telling), "usage": usage(telling)}
    yield {"type": "message_stop"}


async def written(events: AsyncIterator[Event]) -> AsyncIterator[dict[str, str]]:
    async for event in told(events, failure):
        yield {"event": event["type"], "data": as_json(event)}


def content_block(block: Block) -> Event:
    """A whole block. Thoughts are signed with nothing: they are not fed back."""
    if block.kind == "text":
        return {"type": "text", "text": block.text, "citations": None}
    if block.kind == "thought":
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    return {**begun_block(block), "input": block.arguments or {}}


def begun_block(block: Block) -> Event:
    """A block of which nothing has come yet."""
    if block.kind == "text":
        return {"type": "text", "text": "", "citations": None}
    if block.kind == "thought":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "tool_use", "id": f"toolu_{block.id[:24]}", "name": block.name, "input": {}}


def delta(block: Block, text: str) -> Event:
    if block.kind == "text":
        return {"type": "text_delta", "text": text}
    if block.kind == "thought":
        return {"type": "thinking_delta", "thinking": text}
    return {"type": "input_json_delta", "partial_json": text}


def ended(telling: Telling) -> Event:
    """Why the answer ended."""
    if telling.finish_reason == "tool_calls":
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if telling.finish_reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    return {"stop_reason": "stop_sequence" if telling.stop else "end_turn", "stop_sequence": telling.stop}


def usage(telling: Telling) -> Event:
    """Anthropic counts the prompt's tokens that the cache held apart from the others."""
    stats = telling.ending.stats
    return {
        "input_tokens": stats.prompt_tokens - stats.reused_tokens,
        "cache_read_input_tokens": stats.reused_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": stats.generated_tokens,
    }
