"""One choice of a reply in the making: the chunks that each piece of its answer gives, and the whole at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from glmcore.chat.calls import Calling
from glmcore.chat.deltas import Delta, Deltas
from glmcore.engine.batch.answer import Answer, Ending, Piece
from glmcore.engine.engine import Engine
from glmcore.engine.observers import PromptLogprobs
from glmcore.server import replies
from glmcore.server.dialects.logprobs import TextLogprobs, chat_logprob
from glmcore.server.older import of_older

Chunk = dict[str, Any]


class Choice(ABC):
    """Its ``index`` is that among the choices of the reply."""

    def __init__(self, index: int) -> None:
        self.index, self.finish_reason = index, ""

    def begin(self) -> list[Chunk]:
        """What a stream tells before the first piece."""
        return []

    @abstractmethod
    def push(self, piece: Piece) -> list[Chunk]: ...

    @abstractmethod
    def finish(self, ending: Ending) -> list[Chunk]: ...

    @abstractmethod
    def whole(self) -> Chunk: ...


class ChatChoice(Choice):
    """A message. A chunk's logprobs are those of all tokens since the chunk before it."""

    CALLED = "tool_calls"

    def __init__(self, index: int, engine: Engine, deltas: Deltas, logprobs: bool = False) -> None:
        super().__init__(index)
        self.tokenizer, self.deltas = engine.tokenizer, deltas
        self.said: list[Delta] = []
        self.logprobs: list[Chunk] | None = [] if logprobs else None
        self._calls = self._told = 0

    def begin(self) -> list[Chunk]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def push(self, piece: Piece) -> list[Chunk]:
        if self.logprobs is not None and piece.logprob is not None:
            self.logprobs.append(chat_logprob(self.tokenizer, piece.logprob))
        return self._say(self.deltas.push(piece.text))

    def finish(self, ending: Ending) -> list[Chunk]:
        chunks = self._say(self.deltas.finish())
        self.finish_reason = self.CALLED if self.deltas.called else ending.finish_reason
        return [*chunks, self._chunk({}, self.finish_reason)]

    def whole(self) -> Chunk:
        message = self.worded(replies.message(self.said))
        return replies.chat_choice(self.index, self.finish_reason, self.logprobs, message=message)

    def worded(self, said: Chunk) -> Chunk:
        """A message, or a delta of one, in the request's own words."""
        return said

    def _say(self, deltas: Iterable[Delta]) -> list[Chunk]:
        chunks = []
        for delta in deltas:
            chunks.append(self._chunk(replies.chat_delta(delta, self._calls)))
            self._calls += isinstance(delta, Calling)
            self.said.append(delta)
        return chunks

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> Chunk:
        new = (self.logprobs or [])[self._told :]
        self._told += len(new)
        return replies.chat_choice(self.index, reason, new or None, delta=self.worded(delta))


class OlderChatChoice(ChatChoice):
    """The same in the words of ``functions``."""

    CALLED = "function_call"

    def worded(self, said: Chunk) -> Chunk:
        return of_older(said)


class TextChoice(Choice):
    """A completion. Its logprobs have the token that ended it, too, as OpenAI's have.

    echo: the prompt's text, which is told first.
    """

    def __init__(
        self, index: int, engine: Engine, answer: Answer, logprobs: bool = False, echo: str | None = None
    ) -> None:
        super().__init__(index)
        self.logprobs = TextLogprobs(engine.tokenizer) if logprobs else None
        self.answer, self.echo, self.text, self._told = answer, echo, "", 0

    def push(self, piece: Piece) -> list[Chunk]:
        echo = self._echo()
        self.text += piece.text
        if self.logprobs is not None and piece.logprob is not None:
            self.logprobs.push(piece.logprob)
        return [*echo, self._chunk(piece.text)]

    def finish(self, ending: Ending) -> list[Chunk]:
        echo = self._echo()
        self.finish_reason = ending.finish_reason
        if self.logprobs is not None and ending.logprob is not None:
            self.logprobs.push(ending.logprob)
        return [*echo, self._chunk("", self.finish_reason)]

    def _echo(self) -> list[Chunk]:
        """The prompt, once; it has been read."""
        if self.echo is None:
            return []
        self.text, self.echo = self.echo, None
        if self.logprobs is not None and isinstance(self.answer.observer, PromptLogprobs):
            self.logprobs.push_prompt(self.answer.sequence.prompt, self.answer.observer.found, self.text)
        return [self._chunk(self.text)]

    def whole(self) -> Chunk:
        logprobs = None if self.logprobs is None else self.logprobs.lists()
        return replies.text_choice(self.index, self.text, self.finish_reason, logprobs)

    def _chunk(self, text: str, reason: str | None = None) -> Chunk:
        first, self._told = self._told, len(self.logprobs or ())
        logprobs = self.logprobs.lists(first) if self.logprobs is not None and first < self._told else None
        return replies.text_choice(self.index, text, reason, logprobs)
