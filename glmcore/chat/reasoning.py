"""What a model thinks before it answers: GLM-Z1's prompt opens ``<think>``, and ``</think>`` ends it."""

from __future__ import annotations

from dataclasses import dataclass

from glmcore.chat.stops import held_back
from glmcore.traits import TRAITS

BEGIN, END = "<think>", "</think>"


@dataclass(frozen=True)
class Thought:
    """A piece of what a model thinks before it answers."""

    text: str


class Reasoning:
    """Pieces of generated text in, (thought, answer) out; only models that think have thoughts.

    A model that was cut short while it thought has no answer.
    """

    def __init__(self, generation: str) -> None:
        self._thinking, self._begun, self._held = TRAITS[generation].thinks, False, ""
        self._answered = not self._thinking  # the blanks between a thought and its answer belong to neither

    def push(self, text: str) -> tuple[str, str]:
        """What is certain now of the thought, and of the answer."""
        if not self._thinking:
            return "", self._said(text)
        text = self._held + text
        thought, end, answer = text.partition(END)
        if end:
            self._thinking, self._held = False, ""
            return self._shown(thought.rstrip()), self._said(answer)
        # Blanks at its end are dropped, too, so they wait.
        kept = text[: len(text) - held_back(text, (END,))].rstrip()
        self._held = text[len(kept) :]
        return self._shown(kept), ""

    def flush(self) -> str:
        """The rest of a thought that did not end."""
        rest, self._held = self._held, ""
        return self._shown(rest.rstrip())

    def _said(self, answer: str) -> str:
        answer = answer if self._answered else answer.lstrip()
        self._answered = self._answered or bool(answer)
        return answer

    def _shown(self, thought: str) -> str:
        """Without the blanks, and the marker if the model repeats it, that come first."""
        if not self._begun:
            thought = thought.lstrip().removeprefix(BEGIN).lstrip()
            self._begun = bool(thought)
        return thought


def without_thought(text: str) -> str:
    """What is fed back of a message: what follows its thought, as GLM-Z1's template keeps it."""
    return text.rpartition(END)[2].strip()
