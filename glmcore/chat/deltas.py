"""Generated text to what is told of it: text as soon as it is certain, calls with their arguments as they come."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from glmcore.chat.answer import AnswerStream, Unchanged
from glmcore.chat.calls import Arguments, Calling, arguments_of
from glmcore.chat.incremental import CLEAN_UP, Replacements
from glmcore.chat.reasoning import Reasoning, Thought
from glmcore.chat.stops import held_back
from glmcore.traits import TRAITS

# Between the messages of one answer, where the model says something and then calls, or calls twice.
NEXT_MESSAGE = "<|assistant|>"

Delta = str | Calling | Arguments | Thought


class Deltas:
    """``push`` generated text as it comes, ``finish`` at its end.

    tools: the functions whose calls the text may hold, which a grammar has made then (``glmcore.grammar.tools``): a
    message whose first line is such a name is a call. Everything else passes at once, cleaned as the original cleans it
    unless it is ``verbatim``; a thought by itself. begun: the text goes on from one that was there before.
    """

    def __init__(
        self, generation: str, tools: Collection[str] = (), *, verbatim: bool = False, begun: bool = False
    ) -> None:
        self.generation, self.tools = generation, tools
        # What a grammar has made, or goes on from a text, was decoded to the byte.
        mended = (bool(tools) or begun) and TRAITS[generation].mends_blanks and not verbatim
        self._mend = Replacements(CLEAN_UP if mended else ())
        self._clean: AnswerStream | Unchanged = Unchanged() if verbatim else AnswerStream(generation, begun)
        self._reasoning, self._arguments = Reasoning(generation), arguments_of(generation)
        self._held, self._calls = "", 0
        self._state = self._first_line if tools else self._text

    @property
    def called(self) -> bool:
        """Whether there are calls, and all of them whole."""
        return self._calls > 0 and self._state != self._call

    def push(self, text: str) -> list[Delta]:
        thought, text = self._reasoning.push(text)
        self._held += text
        deltas: list[Delta] = thoughts(thought)
        while self._held and (found := self._state()) is not None:
            deltas += found
        return deltas

    def finish(self) -> list[Delta]:
        thought, rest = thoughts(self._reasoning.flush()), list[Delta]()
        if self._state in (self._first_line, self._text):
            rest = self._say(self._held + self._mend.flush())
            rest += [last] if (last := self._clean.flush()) else []
        return [*thought, *rest]

    def _say(self, text: str) -> list[Delta]:
        said = self._clean.push(self._mend.push(text))
        return [said] if said else []

    # Each state takes what it can from what is held, and says what that is; None where it needs more.

    def _first_line(self) -> list[Delta] | None:
        line, newline, rest = self._held.partition("\n")
        name = line.strip()
        if newline and name in self.tools:
            self._held, self._state, self._arguments = rest, self._call, arguments_of(self.generation)
            self._calls += 1
            return [Calling(name)]
        if not newline and any(tool.startswith(name) for tool in self.tools):
            return None
        self._state = self._text
        return []

    def _text(self) -> list[Delta] | None:
        text, self._held = self._held, ""
        if not self.tools:
            return self._say(text)
        text, ended, rest = text.partition(NEXT_MESSAGE)
        if ended:
            self._held, self._state = rest, self._first_line
            return self._say(text)
        cut = len(text) - held_back(text, (NEXT_MESSAGE,))
        self._held = text[cut:]
        return self._say(text[:cut]) if cut else None

    def _call(self) -> list[Delta] | None:
        piece, self._held = self._arguments.push(self._held), ""
        if self._arguments.done:
            self._held, self._state = self._arguments.rest, self._behind_call
        return [Arguments(piece)] if piece else []

    def _behind_call(self) -> list[Delta] | None:
        _, ended, rest = self._held.partition(NEXT_MESSAGE)
        if not ended:
            self._held = self._held[len(self._held) - held_back(self._held, (NEXT_MESSAGE,)) :]
            return None
        self._held, self._state = rest, self._first_line
        return []


class Verbatim:
    """Generated text told as the model writes it."""

    called = False

    def push(self, text: str) -> list[Delta]:
        return [text] if text else []

    def finish(self) -> list[Delta]:
        return []


def calls_of(deltas: Iterable[Delta]) -> list[dict[str, str]]:
    """Name and arguments of the calls that the deltas make; the last one's arguments may have been cut."""
    calls: list[dict[str, str]] = []
    for delta in deltas:
        if isinstance(delta, Calling):
            calls.append({"name": delta.name, "arguments": ""})
        elif isinstance(delta, Arguments):
            calls[-1]["arguments"] += delta.text
    return calls


def thoughts(text: str) -> list[Delta]:
    return [Thought(text)] if text else []
