"""From a request that was understood to the deltas of its answer: the core of every dialect of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from glmcore.engine.batch.answer import Ending
from glmcore.engine.engine import Engine
from glmcore.engine.sequence import budget
from glmcore.server.deltas import Delta, Deltas
from glmcore.server.errors import ApiError
from glmcore.server.line import Job, Line, Task
from glmcore.server.schemas import ChatRequest, CompletionRequest, Settings

# Where a request does not say how long an answer may be.
CHAT_TOKENS, COMPLETION_TOKENS = 2048, 16


def check_model(engine: Engine, name: str | None) -> None:
    """Errors: ApiError(404) for the name of another model."""
    if name is not None and name != engine.config.name:
        message = f"there is no model of this name here, only {engine.config.name}"
        raise ApiError(404, message, param="model", code="model_not_found")


class Telling:
    """An answer as it is told: its deltas as they come, by iterating once; then why it ended and what it cost.

    Without ``deltas`` the text is told as the model writes it. Errors while iterating: GlmError, ApiError.
    """

    def __init__(self, job: Job, deltas: Deltas | None = None) -> None:
        self.job, self.deltas = job, deltas

    async def __aiter__(self) -> AsyncIterator[Delta]:
        async for text in self.job.pieces():
            for delta in self.deltas.push(text) if self.deltas else (text,):
                yield delta
        for delta in self.deltas.finish() if self.deltas else ():
            yield delta

    @property
    def ending(self) -> Ending:
        assert self.job.ending is not None, "it has not been told to its end"
        return self.job.ending

    @property
    def stop(self) -> str | None:
        """The stop text that ended it."""
        return self.job.answer.words.found

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.deltas and self.deltas.calls else self.ending.finish_reason


class Answers:
    """Requests in the core's own terms, which are those of OpenAI's chat, put into the line."""

    def __init__(self, engine: Engine, line: Line) -> None:
        self.engine, self.line = engine, line

    @property
    def model(self) -> str:
        return self.engine.config.name

    async def chat(self, asked: ChatRequest) -> Telling:
        """Errors: ApiError, GlmError for whatever is wrong with it, before it waits."""
        tools = asked.tool_names
        limit = asked.max_completion_tokens or asked.max_tokens or CHAT_TOKENS
        job = await self._job(
            asked, lambda: self.engine.prompt(asked.messages, asked.offered), limit, several=bool(tools)
        )
        return Telling(job, Deltas(self.engine.config.generation, tools))

    async def complete(self, asked: CompletionRequest) -> Telling:
        """Errors: as ``chat``."""
        limit = asked.max_tokens or COMPLETION_TOKENS
        tokenizer = self.engine.tokenizer
        return Telling(await self._job(asked, lambda: tokenizer.encode(asked.text, add_special_tokens=True), limit))

    async def _job(self, asked: Settings, prompt: Callable[[], list[int]], limit: int, *, several: bool = False) -> Job:
        """The request in the line. What is wrong with it is said before it waits; ``prompt`` may take a while."""
        check_model(self.engine, asked.model)
        asked.check()
        sampling = self.engine.sampling(asked.temperature, asked.top_p, asked.seed, **asked.choosing)
        ids = await asyncio.to_thread(prompt)
        allowed = budget(len(ids), limit, self.engine.context)
        return self.line.join(Task(tuple(ids), allowed, sampling, asked.stops, several))
