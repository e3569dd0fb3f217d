"""From a request that was understood to the deltas of its answer: the core of every dialect of the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from glmcore.chat.deltas import Delta, Deltas, Verbatim
from glmcore.engine.batch.answer import Answer, Ending, Piece
from glmcore.engine.engine import Engine
from glmcore.engine.logprobs import Logprob
from glmcore.engine.observers import MeanState
from glmcore.engine.sampling import Sampling
from glmcore.engine.sequence import budget
from glmcore.errors import GlmError
from glmcore.grammar import Grammar
from glmcore.grammar.shape import Shape
from glmcore.server.errors import ApiError
from glmcore.server.line import Job, Line, Task
from glmcore.server.older import in_older_words
from glmcore.server.schemas import ChatRequest, CompletionRequest, EmbeddingRequest, Settings

# Where a request does not say how long an answer may be.
CHAT_TOKENS, COMPLETION_TOKENS = 2048, 16


def check_model(engine: Engine, name: str | None) -> None:
    """Errors: ApiError(404) for the name of another model."""
    if name is not None and name != engine.config.name:
        message = f"there is no model of this name here, only {engine.config.name}"
        raise ApiError(404, message, param="model", code="model_not_found")


class Telling:
    """The first answer of a job as it is told: its deltas as they come, by iterating once; then why it ended and what
    it cost. Errors while iterating: GlmError, ApiError.
    """

    def __init__(self, job: Job, deltas: Deltas | Verbatim) -> None:
        self.job, self.deltas = job, deltas
        self._logprobs: list[Logprob] = []

    async def __aiter__(self) -> AsyncIterator[Delta]:
        async for _, item in self.job.items():
            if isinstance(item, Piece) and item.logprob is not None:
                self._logprobs.append(item.logprob)
            for delta in self.deltas.push(item.text) if isinstance(item, Piece) else self.deltas.finish():
                yield delta

    def logprobs(self) -> list[Logprob]:
        """Those of the tokens that came since this was asked last; none where they were not asked for."""
        new, self._logprobs = self._logprobs, []
        return new

    @property
    def answer(self) -> Answer:
        return self.job.answers[0]

    @property
    def ending(self) -> Ending:
        return self.job.endings[0]  # it has been told to its end

    @property
    def ended(self) -> bool:
        return 0 in self.job.endings

    @property
    def stop(self) -> str | None:
        """The stop text that ended it."""
        return self.ending.stop

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.deltas.called else self.ending.finish_reason


def of_messages(error: GlmError, told: bool) -> GlmError:
    """An error of a prompt as one of the messages it is made from; told: and from tools or a schema besides."""
    if error.code != "context-full":
        return error
    hint = f"{error.hint}; what describes tools and schemas is part of it" if told else error.hint
    return GlmError(error.code, error.what, where="messages", hint=hint)


class Answers:
    """Requests in the core's own terms, which are those of OpenAI's chat, put into the line."""

    def __init__(self, engine: Engine, line: Line) -> None:
        self.engine, self.line = engine, line

    @property
    def model(self) -> str:
        return self.engine.config.name

    async def chat(self, asked: ChatRequest) -> Telling:
        """One answer. Errors: as ``chats``."""
        return Telling(await self.chats(asked), self.deltas(asked))

    def deltas(self, asked: ChatRequest) -> Deltas:
        """What makes a request's text one."""
        return Deltas(self.engine.config.generation, asked.tool_names, verbatim=asked.held, begun=asked.begun)

    async def chats(self, asked: ChatRequest) -> Job:
        """Errors: ApiError, GlmError for whatever is wrong with it, before it waits."""
        self._check(asked)
        limit = asked.max_completion_tokens or asked.max_tokens or CHAT_TOKENS
        shape = await self._shape(asked)
        prompt = partial(self.engine.prompt, shape.messages, shape.tools, begun=asked.begun)
        try:
            return await self._job(asked, [prompt], limit, shape.grammar, several=bool(shape.names))
        except GlmError as error:
            raise of_messages(error, bool(shape.grammar)) from None

    async def prompt(self, asked: ChatRequest) -> list[int]:
        """The ids that an answer would follow. Errors: as ``chats``, but for a context that is full."""
        self._check(asked)
        shape = await self._shape(asked)
        return await asyncio.to_thread(self.engine.prompt, shape.messages, shape.tools, begun=asked.begun)

    async def _shape(self, asked: ChatRequest) -> Shape:
        try:
            shape = await asyncio.to_thread(self.engine.shaped, asked.messages, **asked.shaping)
        except GlmError as error:
            raise in_older_words(error) if asked.functions else error from None
        if asked.begun and shape.grammar:
            message = "an answer that was begun can neither call tools nor be held to a response_format"
            raise ApiError(400, message, param="continue_final_message")
        return shape

    async def complete(self, asked: CompletionRequest) -> Telling:
        """One answer. Errors: as ``chats``."""
        return Telling(await self.completions(asked), Verbatim())

    async def completions(self, asked: CompletionRequest) -> Job:
        """Errors: as ``chats``."""
        self._check(asked)
        limit = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
        shape = await asyncio.to_thread(self.engine.shaped, (), response_format=asked.response_format)
        prompts = [partial(self.engine.prompt_ids, each) for each in asked.prompts]
        return await self._job(asked, prompts, limit, shape.grammar)

    def _check(self, asked: Settings) -> None:
        check_model(self.engine, asked.model)
        asked.check()

    async def _job(
        self, asked: Settings, prompts: Sequence[Callable[[], list[int]]], limit: int, grammar: Grammar | None, *,
        several: bool = False,
    ) -> Job:  # fmt: skip
        """The request in the line: for each prompt as many answers as it makes.

        What is wrong with it is said before it waits; to make the prompts may take a while.
        """
        self.line.check(len(prompts) * asked.made)
        sampling = self.engine.sampling(asked.temperature, asked.top_p, asked.seed, **asked.choosing)
        every = await asyncio.to_thread(lambda: [prompt() for prompt in prompts])
        return self.line.join([
            Task(
                tuple(ids), budget(len(ids), limit, self.engine.context), sampling.of_choice(number), asked.stops,
                tuple(asked.stop_token_ids or ()), bool(asked.include_stop_str_in_output), several, asked.top, grammar,
                self.engine.prompt_logprobs(ids, asked.top or 0) if asked.scores else None, asked.begun,
            )
            for ids in every for number in range(asked.made)
        ])  # fmt: skip

    async def embeddings(self, asked: EmbeddingRequest) -> tuple[Job, list[MeanState]]:
        """Texts that are read one after the other, in one place of the line, and what will have their embeddings.

        Errors: as ``chats``.
        """
        check_model(self.engine, asked.model)
        asked.check(self.engine.config.hidden_size)
        every = await asyncio.to_thread(lambda: [self.engine.mean_state(each) for each in asked.inputs])
        nothing = Sampling(temperature=0)
        tasks = [
            Task(tuple(ids), budget(len(ids), 0, self.engine.context), nothing, observer=mean) for ids, mean in every
        ]
        return self.line.join(tasks, in_turn=True), [mean for _, mean in every]
