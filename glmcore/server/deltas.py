"""Generated text to what a client is told: text as soon as it is certain, and tool calls once they are whole."""

from __future__ import annotations

from collections.abc import Collection

from glmcore.chat.answer import AnswerStream, Unchanged
from glmcore.chat.messages import Call
from glmcore.chat.reasoning import Reasoning, Thought
from glmcore.chat.responses import parse_call
from glmcore.chat.stops import held_back

# Between the messages of one answer, where the model says something and then calls, or calls twice.
NEXT_MESSAGE = "<|assistant|>"

Delta = str | Call | Thought


class Deltas:
    """``push`` generated text as it comes, ``finish`` at its end.

    A message whose first line is the name of an offered tool is held back until it is whole; where it does not parse as
    a call, it is text. Everything else passes at once, cleaned as the original cleans it unless it is ``verbatim``; a
    thought by itself.
    """

    def __init__(self, generation: str, tools: Collection[str] = (), *, verbatim: bool = False) -> None:
        self.generation, self.tools = generation, tools
        self.calls = 0
        self._clean: AnswerStream | Unchanged = Unchanged() if verbatim else AnswerStream(generation)
        self._reasoning = Reasoning(generation)
        self._held = ""
        self._is_text = not tools  # whether the message that is coming is known to be no call

    def push(self, text: str) -> list[Delta]:
        thought, text = self._reasoning.push(text)
        return [*thoughts(thought), *self._push(text)]

    def _push(self, text: str) -> list[Delta]:
        if not self.tools:
            return self._say(text)
        deltas: list[Delta] = []
        *whole, self._held = (self._held + text).split(NEXT_MESSAGE)
        for message in whole:
            deltas += self._end_message(message)
        self._is_text = self._is_text or not self._may_be_call()
        if self._is_text:
            cut = len(self._held) - held_back(self._held, (NEXT_MESSAGE,))
            deltas += self._say(self._held[:cut])
            self._held = self._held[cut:]
        return deltas

    def finish(self) -> list[Delta]:
        rest = self._end_message(self._held)
        cleaned = self._clean.flush()
        return [*thoughts(self._reasoning.flush()), *rest, *([cleaned] if cleaned else [])]

    def _say(self, text: str) -> list[Delta]:
        said = self._clean.push(text)
        return [said] if said else []

    def _may_be_call(self) -> bool:
        line, newline, _ = self._held.partition("\n")
        name = line.strip()
        return name in self.tools if newline else any(tool.startswith(name) for tool in self.tools)

    def _end_message(self, message: str) -> list[Delta]:
        call = None if self._is_text else parse_call(message, self.generation, self.tools)
        self._is_text = not self.tools
        if call is None:
            return self._say(message)
        self.calls += 1
        return [call]


class Verbatim:
    """Generated text told as the model writes it."""

    calls = 0

    def push(self, text: str) -> list[Delta]:
        return [text] if text else []

    def finish(self) -> list[Delta]:
        return []


def thoughts(text: str) -> list[Delta]:
    return [Thought(text)] if text else []
