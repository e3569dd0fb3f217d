"""One answer in the making: what it is made of, who listens, and how it ended."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from glmcore.engine.batch.lookup import Lookup
from glmcore.engine.batch.scheduler import Place
from glmcore.engine.logprobs import Logprob, logprob_of
from glmcore.engine.observers import Observer
from glmcore.engine.sampling import Sampler
from glmcore.engine.sequence import Sequence
from glmcore.engine.stats import Stats
from glmcore.engine.text import AnswerText


@dataclass(frozen=True)
class Piece:
    """A token and the text that is certain with it; the last piece of an answer may be text alone."""

    text: str
    token: int | None = None
    logprob: Logprob | None = None


@dataclass(frozen=True)
class Ending:
    """How an answer ended, what it cost, and the seconds that it waited and took; ``logprob`` is the stop token's,
    ``stop`` the stop text that it was."""

    finish_reason: str  # "stop", "length", "cancelled"
    stats: Stats
    waited_s: float
    took_s: float
    logprob: Logprob | None = None
    stop: str | None = None


Item = Piece | Ending | Exception


class Answer(Place):
    """Its pieces as they come, by iterating (``for``, ``async for``), again too; ``ending`` says how it ended.

    top: how many of the likeliest tokens are told with each token's logprob; None: no logprobs are. observer: who is
    shown the prompt's states, all of them before the first piece.
    Errors while iterating: what the model raised.
    """

    def __init__(
        self, sequence: Sequence, sampler: Sampler, text: AnswerText, backend: str = "", top: int | None = None,
        observer: Observer | None = None,
    ) -> None:  # fmt: skip
        super().__init__(len(sequence.prompt), len(sequence.prompt) + sequence.max_new_tokens)
        self.sequence, self.sampler, self.words, self.top, self.observer = sequence, sampler, text, top, observer
        self.logprobs: list[Logprob] = []  # of the tokens drawn so far, a stop token's too
        self.stats = Stats(prompt_tokens=len(sequence.prompt), backend=backend)
        self.ending: Ending | None = None
        self.cancelled = False
        self.asked = time.perf_counter()
        self.begun: float | None = None  # when its turn came
        self.first_known = 0.0
        self.lookup: Lookup | None = None
        self._listening = threading.Lock()
        self._said: list[Item] = []
        self._listeners: list[Callable[[Item], None]] = []

    def cancel(self) -> None:
        """Nobody waits for the rest any more; it ends within a step, or a piece of its prompt."""
        self.cancelled = True

    def listen(self, listener: Callable[[Item], None]) -> None:
        """Call ``listener`` with every piece and at last the ending or an error, those before now at once.

        It is called in the thread that computes, and must neither wait nor raise.
        """
        with self._listening:
            for item in self._said:
                listener(item)
            self._listeners.append(listener)

    def tell(self, item: Item) -> None:
        """For the thread that computes."""
        with self._listening:
            if isinstance(item, Ending):
                self.ending = item
            self._said.append(item)
            for listener in self._listeners:
                listener(item)

    def __iter__(self) -> Iterator[Piece]:
        items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.listen(items.put)
        try:
            while isinstance(piece := _checked(items.get()), Piece):
                yield piece
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        loop, items = asyncio.get_running_loop(), asyncio.Queue[Item]()
        self.listen(lambda item: _unless_closed(loop, items, item))
        try:
            while isinstance(piece := _checked(await items.get()), Piece):
                yield piece
        finally:
            self.cancel()

    def text(self) -> str:
        """All of it, once it has ended."""
        return "".join(piece.text for piece in self)

    def draw(self, logits: Tensor) -> int:
        """The next token by logits [V]. For the thread that computes."""
        token = self.sampler(logits)
        if self.top is not None:
            self.logprobs.append(logprob_of(logits, token, self.top))
        return token

    def take(self, token: int) -> None:
        """Tell a token that was drawn, unless it is a stop token. For the thread that computes."""
        number = len(self.sequence.output)
        if self.sequence.push(token):
            self.stats.generated_tokens = number + 1
            logprob = self.logprobs[number] if self.top is not None else None
            self.tell(Piece(self.words.push(token), token, logprob))

    def end(self, reason: str | None = None) -> None:
        """Tell what is left of the text, and the ending. For the thread that computes."""
        now = time.perf_counter()
        if reason is not None:
            self.sequence.end(reason)
        elif rest := self.words.flush():
            self.tell(Piece(rest))
        if self.words.stopped and reason is None:
            self.sequence.end("stop")
        assert self.sequence.finish_reason is not None
        begun = now if self.begun is None else self.begun
        said = len(self.sequence.output)
        by_token = reason is None and self.sequence.finish_reason == "stop" and not self.words.stopped
        del self.logprobs[said + by_token :]  # of what was drawn by a draft and comes too late
        logprob = self.logprobs[said] if self.top is not None and by_token else None
        waited, took = begun - self.asked, now - begun
        self.tell(Ending(self.sequence.finish_reason, self.stats, waited, took, logprob, self.words.found))


def _checked(item: Item) -> Piece | Ending:
    if isinstance(item, Exception):
        raise item
    return item


def _unless_closed(loop: asyncio.AbstractEventLoop, items: asyncio.Queue[Item], item: Item) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(items.put_nowait, item)
