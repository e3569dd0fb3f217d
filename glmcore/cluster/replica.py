"""One engine in a process of its own: an actor of Ray's, on the node that the plan chose."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from glmcore.cluster.groups import BEAT_S, PACE_S
from glmcore.errors import GlmError
from glmcore.kernels.threads import share_cores

if TYPE_CHECKING:
    from glmcore.engine.batch.answer import Answer, Item
    from glmcore.engine.engine import Engine
    from glmcore.engine.observers import Observer

    # The number of an answer, what it says, and with its last word whoever has seen the states of its prompt.
    Said = tuple[int, Item, Observer | None]


class Replica:
    """Answers what it is given; what it has to say is taken by ``news``, all that there is at once.

    A message costs as much as a token of a small model: what was said since the last one goes together, and the next
    one waits a little for more, which is soon beside a large model's token.
    """

    def __init__(self) -> None:
        share_cores()  # before torch comes, which brings OpenMP
        self.said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self.answers: dict[int, Answer] = {}
        self.begun: set[int] = set()
        self.told = 0.0  # when something was said last

    def load(self, model: str | None, loading: dict[str, Any], answering: dict[str, Any]) -> dict[str, Any]:
        """Make the engine of the whole model; what the front has to know of it. Errors: GlmError."""
        import glmcore

        return self._answer_with(glmcore.load(model, **loading, **answering))

    def lead(
        self, model: str | None, layers: tuple[int, int], loading: dict[str, Any], answering: dict[str, Any],
        others: Sequence[tuple[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        """The same of the model's last layers, with those before at other actors, by their names. Errors: GlmError."""
        from glmcore import demo
        from glmcore.cluster.stage import ActorStage
        from glmcore.engine.stages.load import load_stage
        from glmcore.engine.stages.pipeline import Local
        from glmcore.engine.stages.runner import staged_engine

        handles = [*(ActorStage(name, actor) for name, actor in others), Local(load_stage(model, *layers, **loading))]
        return self._answer_with(staged_engine(model or demo.folder(), handles, **answering))

    def _answer_with(self, engine: Engine) -> dict[str, Any]:
        self.engine = engine
        engine.loop.measure()
        return {"backend": engine.backend, "context": engine.context, "parallel": engine.parallel}

    def submit(self, number: int, prompt: tuple[int, ...], asked: dict[str, Any]) -> None:
        """Answer a prompt; ``asked`` is what ``Engine.submit`` takes. What is wrong with it comes as news."""
        try:
            answer = self.engine.submit(prompt, **asked)
        except Exception as error:
            self.said.put((number, sendable(error), None))
            return
        self.answers[number] = answer
        observer = asked.get("observer")
        answer.listen(lambda item: self.said.put((number, sendable(item), observer if is_last(item) else None)))

    def cancel(self, number: int) -> None:
        if number in self.answers:
            self.answers[number].cancel()

    def news(self) -> tuple[list[int], list[Said], dict[str, int]]:
        """Whose turn has come, what was said, and how full this replica is. Waits for it, BEAT_S at most."""
        said = self._said()
        begun = [
            number for number, answer in list(self.answers.items())
            if answer.begun is not None and number not in self.begun
        ]  # fmt: skip
        self.begun.update(begun)
        for number, item, _ in said:
            if is_last(item):
                self.answers.pop(number, None)
                self.begun.discard(number)
        return begun, said, self.figures()

    def _said(self) -> list[Said]:
        said: list[Said] = []
        with suppress(queue.Empty):
            said.append(self.said.get(timeout=BEAT_S))
            time.sleep(max(0.0, self.told + PACE_S - time.monotonic()))
            self.told = time.monotonic()
            while True:
                said.append(self.said.get_nowait())
        return said

    def figures(self) -> dict[str, int]:
        scheduler = self.engine.loop.scheduler
        return {
            "waiting": len(scheduler.waiting), "reading": len(scheduler.reading), "answering": len(scheduler.answering),
            "rows_taken": len(self.engine.loop.seats.taken), **self.engine.prefix_cache(),
        }  # fmt: skip


def is_last(item: Item) -> bool:
    """Whether an answer says nothing more after it."""
    from glmcore.engine.batch.answer import Piece

    return not isinstance(item, Piece)


def sendable(item: Item) -> Item:
    """What another process can read: of an error that is not our own its kind alone."""
    if isinstance(item, Exception) and not isinstance(item, GlmError | MemoryError):
        return GlmError("internal", f"the model failed: {type(item).__name__}")
    return item
