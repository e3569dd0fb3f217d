"""OpenAI's chat and completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from glmcore.engine.batch.answer import Ending, Piece
from glmcore.engine.engine import Engine
from glmcore.engine.logprobs import mean
from glmcore.server import replies
from glmcore.server.answers import Answers
from glmcore.server.dialects.choices import ChatChoice, Choice, Chunk, OlderChatChoice, TextChoice
from glmcore.server.dialects.logprobs import PromptText
from glmcore.server.errors import ApiError
from glmcore.server.line import Job
from glmcore.server.schemas import ChatRequest, CompletionRequest, Settings
from glmcore.server.streams import Event, EventStream, as_json, told, unless_gone
from glmcore.tokenizers import Tokenizer


def add_openai(app: FastAPI, answers: Answers) -> None:
    """``POST /v1/chat/completions`` and ``POST /v1/completions``."""
    engine = answers.engine

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        job, head = await answers.chats(asked), replies.Head("chat.completion", answers.model)
        kind = OlderChatChoice if asked.functions else ChatChoice
        choices = [kind(index, engine, answers.deltas(asked), bool(asked.logprobs)) for index in range(asked.made)]
        return await respond(asked, request, Reply(head, job, choices, asked.made))

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        job, head = await answers.completions(asked), replies.Head("text_completion", answers.model)
        choices = [
            TextChoice(index, engine, answer, asked.logprobs is not None, echo)
            for index, (answer, echo) in enumerate(zip(job.answers, echoes(asked, engine), strict=True))
        ]
        return await respond(asked, request, Reply(head, job, choices, asked.made, asked.choices))


def echoes(asked: CompletionRequest, engine: Engine) -> Iterator[str | None]:
    """What each choice tells before its answer: the prompt as it was given, or the text of its ids; None: nothing."""
    for prompt in asked.prompts:
        text = None if not asked.echo else prompt if isinstance(prompt, str) else text_of(engine.tokenizer, prompt)
        yield from [text] * asked.made


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    stream = PromptText(tokenizer)
    return "".join(map(stream.push, ids)) + stream.flush()


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
