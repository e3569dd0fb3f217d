"""What the engine's thread does: one answer, piece by piece, until it ends or nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glmcore.engine.engine import Engine
from glmcore.engine.sampling import Sampling
from glmcore.server.deltas import NEXT_MESSAGE


@dataclass(frozen=True)
class Task:
    """A prompt as token ids and how to answer it. ``max_new_tokens`` lies within the model's context.

    several: whether the answer may be several messages, which the text then shows by NEXT_MESSAGE.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    several: bool = False


def answer(engine: Engine, task: Task, emit: Callable[[str], None], cancelled: Callable[[], bool]) -> str:
    """Hand the text to ``emit`` and say why it ended: "stop", "length" or "cancelled".

    ``cancelled`` is asked before each token; a prefill is not interrupted.
    """
    sequence = engine.sequence(task.prompt, task.max_new_tokens)
    shown = (NEXT_MESSAGE,) if task.several else ()
    for text in engine.text(sequence, task.sampling, task.stop, shown=shown, cancelled=cancelled):
        emit(text)
    assert sequence.finish_reason is not None
    return sequence.finish_reason
