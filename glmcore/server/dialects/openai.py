"""OpenAI's chat and completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from glmcore.engine.batch.answer import Ending, Piece
from glmcore.engine.logprobs import mean
from glmcore.server import replies
from glmcore.server.answers import Answers
from glmcore.server.dialects.choices import ChatChoice, Choice, Chunk, TextChoice
from glmcore.server.errors import ApiError
from glmcore.server.line import Job
from glmcore.server.schemas import ChatRequest, CompletionRequest, Settings
from glmcore.server.streams import Event, EventStream, as_json, told, unless_gone


def add_openai(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/chat/completions`` and ``POST /v1/completions``."""
    engine = answers.engine

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        job, head = await answers.chats(asked), replies.Head("chat.completion", answers.model)
        choices = [
            ChatChoice(index, engine, answers.deltas(asked), bool(asked.logprobs)) for index in range(asked.made)
        ]
        return await respond(asked, request, Reply(head, job, choices, asked.made))

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        job, head = await answers.completions(asked), replies.Head("text_completion", answers.model)
        choices = [TextChoice(index, engine, asked.logprobs is not None) for index in range(len(job.entries))]
        return await respond(asked, request, Reply(head, job, choices, asked.made, asked.choices))


async def respond(asked: Settings, request: Request, reply: Reply) -> Response:
    if asked.stream:
        return EventStream(reply.job, written(reply.events(asked.wants_usage)))
    return JSONResponse(await unless_gone(request, reply.job, reply.whole()))


async def written(events: AsyncIterator[Event]) -> AsyncIterator[dict[str, str]]:
    async for event in told(events, ApiError.body):
        yield {"data": as_json(event)}
    yield {"data": "[DONE]"}


class Reply:
    """The reply to a request whose answers are under way: ``made`` for each prompt, of which the ``kept`` best are told
    (all where None)."""

    def __init__(
        self, head: replies.Head, job: Job, choices: Sequence[Choice], made: int, kept: int | None = None
    ) -> None:
        self.head, self.job, self.choices, self.made, self.kept = head, job, choices, made, kept or made

    async def events(self, wants_usage: bool) -> AsyncIterator[Event]:
        """The chunks of all choices as they come."""
        for choice in self.choices:
            for chunk in choice.begin():
                yield self.head.chunk([chunk])
        async for number, item in self.job.items():
            for chunk in self._take(number, item):
                yield self.head.chunk([chunk])
        if wants_usage:
            yield self.head.chunk([], usage=self.usage())

    async def whole(self) -> Event:
        async for number, item in self.job.items():
            self._take(number, item)
        told = [choice.whole() | {"index": index} for index, choice in enumerate(self._best())]
        return self.head.reply(told, usage=self.usage())

    def _take(self, number: int, item: Piece | Ending) -> list[Chunk]:
        choice = self.choices[number]
        return choice.push(item) if isinstance(item, Piece) else choice.finish(item)

    def _best(self) -> Iterator[Choice]:
        """Of each prompt's choices those whose tokens were likeliest in the mean, the best first; all as made."""
        for first in range(0, len(self.choices), self.made):
            numbers: Sequence[int] = range(first, first + self.made)
            if self.kept < self.made:
                ranked = sorted(numbers, key=lambda number: -mean(self.job.answers[number].logprobs))
                numbers = ranked[: self.kept]
            yield from (self.choices[number] for number in numbers)

    def usage(self) -> Event:
        """Of all answers, those that are not told too."""
        return replies.usage([answer.stats for answer in self.job.answers], self.made)
