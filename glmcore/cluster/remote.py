"""A replica as the front knows it: answers are sent there, what it says is passed on, and its loss is noticed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from glmcore.cluster.groups import NEWS, ORDERS
from glmcore.cluster.replica import is_last
from glmcore.engine.batch.answer import Answer, Ending, Piece
from glmcore.engine.observers import Observer
from glmcore.engine.sequence import Sequence as TokenSequence
from glmcore.errors import GlmError

# Seconds without a word, after which a replica is lost: it beats every second.
SILENCE_S = 4.0


class RemoteAnswer(Answer):
    """An answer that is made elsewhere: tokens are drawn and worded there."""

    def __init__(self, sequence: TokenSequence, backend: str, observer: Observer | None = None) -> None:
        super().__init__(sequence, None, None, backend, observer=observer)  # type: ignore[arg-type]
        self.give_up: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.give_up()


class Remote:
    """``lost`` is told once, with why, in the thread that listens. ``nodes``: ids of those that it runs on."""

    _numbers = itertools.count(1)

    def __init__(
        self, name: str, nodes: Sequence[str], actors: Sequence[Any], about: Mapping[str, Any],
        lost: Callable[[Remote, str], None], ended: Callable[[Remote, RemoteAnswer], None],
    ) -> None:  # fmt: skip
        self.name, self.nodes, self.actors, self.about = name, tuple(nodes), tuple(actors), about
        self.lost, self.ended = lost, ended
        self.figures: Mapping[str, int] = {}
        self._answers: dict[int, RemoteAnswer] = {}
        self._lock = threading.Lock()
        self._why: str | None = None  # it was lost
        leader = self.actors[0]
        self._submit = leader.submit.options(concurrency_group=ORDERS)
        self._cancel = leader.cancel.options(concurrency_group=ORDERS)
        self._news = [actor.news.options(concurrency_group=NEWS) for actor in self.actors]
        self._threads = [
            threading.Thread(target=self._listen, args=(number,), name=f"glmcore {name}", daemon=True)
            for number in range(len(self.actors))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return self._why is None

    def take(self, answer: RemoteAnswer, asked: Mapping[str, Any]) -> None:
        """Have it answered; if the replica has just been lost, the answer ends with that."""
        number = next(self._numbers)
        with self._lock:
            why = self._why
            if why is None:
                self._answers[number] = answer
        if why is not None:
            answer.tell(loss(self.name, why))
            return
        answer.give_up = lambda: self._order(self._cancel, number)
        self._order(self._submit, number, answer.sequence.prompt, dict(asked))

    def _order(self, method: Any, *arguments: Any) -> None:
        from ray.exceptions import RayError

        with suppress(RayError):  # whoever listens hears that it is lost
            method.remote(*arguments)

    def _listen(self, number: int) -> None:
        """Take news of one of its processes until that is lost, or the replica is closed."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        try:
            while self._why is None:
                self._hear(ray.get(self._news[number].remote(), timeout=SILENCE_S))
        except GetTimeoutError:
            self.close(f"it said nothing for {SILENCE_S:g} s")
        except RayError as error:
            self.close(f"its process has ended ({type(error).__name__})")

    def _hear(self, news: tuple[Collection[int], Sequence[tuple[int, Any, Any]], Mapping[str, int]]) -> None:
        begun, said, figures = news
        self.figures = figures or self.figures  # a stage has none
        now = time.perf_counter()
        for number in begun:
            if number in self._answers:
                self._answers[number].begun = now
        for number, item, observer in said:
            answer = self._answers.pop(number, None) if is_last(item) else self._answers.get(number)
            if answer is None:
                continue
            if isinstance(item, Piece) and item.token is not None:
                answer.sequence.output.append(item.token)
            if isinstance(item, Ending):
                answer.stats = item.stats
            if isinstance(item, Piece | Ending) and item.logprob is not None:
                answer.logprobs.append(item.logprob)
            if observer is not None and answer.observer is not None:
                vars(answer.observer).update(vars(observer))  # what was seen there
            if is_last(item):
                self.ended(self, answer)
            answer.tell(item)

    def close(self, why: str, *, told: bool = True) -> None:
        """End its processes; whoever waits for an answer hears why. Not ``told``: nobody else does."""
        import ray
        from ray.exceptions import RayError

        with self._lock:
            if self._why is not None:
                return
            self._why = why
            answers, self._answers = list(self._answers.values()), {}
        for answer in answers:
            answer.tell(loss(self.name, why))
        for actor in self.actors:
            with suppress(RayError, ValueError):
                ray.kill(actor)
        if told:
            self.lost(self, why)


    def end(self) -> None:
        """Close it, and wait until nobody listens any more: Ray may end then."""
        self.close("the server ends", told=False)
        for thread in self._threads:
            thread.join(SILENCE_S)


def loss(name: str, why: str) -> GlmError:
    return GlmError("replica-lost", f"the replica on {name} was lost: {why}", hint="ask again")
