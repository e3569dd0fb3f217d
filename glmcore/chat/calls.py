"""A tool call as the model writes it, name in one line and arguments below, read while it comes: its arguments as JSON.

Only text that a grammar has made (``glmcore.grammar.tools``) is read so; nothing of it is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glmcore.traits import TRAITS


@dataclass(frozen=True)
class Calling:
    """A call begins."""

    name: str


@dataclass(frozen=True)
class Arguments:
    """A piece of the JSON object of its arguments."""

    text: str


class Value:
    """One JSON value amid other text: ``push`` gives what belongs to it and what follows it."""

    def __init__(self) -> None:
        self._depth, self._in_text, self._escaped = 0, False, False

    @property
    def open(self) -> bool:
        """Whether it is within a bracket or a text."""
        return self._in_text or self._depth > 0

    def push(self, text: str, ends: str = "") -> tuple[str, str]:
        """ends: the characters before which a value without brackets of its own ends."""
        for place, character in enumerate(text):
            if self._in_text:
                self._in_text = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in ends and not self._depth:
                return text[:place], text[place:]
            elif character in "}]":
                self._depth -= 1
                if not self._depth and not ends:
                    return text[: place + 1], text[place + 1 :]
        return text, ""


class JsonArguments:
    """GLM-4's: the JSON object itself. ``push`` gives what has come of it, until it is whole: then it is ``done``, and
    ``rest`` is what follows."""

    def __init__(self) -> None:
        self.done, self.rest = False, ""
        self._value, self._begun = Value(), False

    def push(self, text: str) -> str:
        text = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        found, self.rest = self._value.push(text)
        self.done = self._begun and not self._value.open
        return found


class PythonArguments:
    """ChatGLM3's: ``tool_call(name=value, …)`` between two fence lines, or ``tool_call(**{…})``; values as in JSON."""

    OPENING = "tool_call("

    def __init__(self) -> None:
        self.done = False
        self._held, self._count = "", 0
        self._state: Callable[[], str | None] = self._opening
        self._value = Value()

    @property
    def rest(self) -> str:
        """What follows, once it is done."""
        return self._held

    def push(self, text: str) -> str:
        self._held += text
        made = ""
        while not self.done and (piece := self._state()) is not None:
            made += piece
        return made

    # Each state takes what it can from what is held, and gives JSON; None where it needs more.

    def _opening(self) -> str | None:
        _, opened, rest = self._held.partition(self.OPENING)
        if not opened or not rest.strip():
            return None
        self._held = rest.lstrip()
        self._state = self._whole if self._held.startswith("*") else self._name
        return ""

    def _whole(self) -> str | None:
        found, self._held = self._value.push(self._held.lstrip("*"), ")")
        self.done = bool(self._held)
        return found or None

    def _name(self) -> str | None:
        self._held = self._held.lstrip(", \n")
        if self._held.startswith(")"):
            self.done = True
            return "}" if self._count else "{}"
        name, equals, self._held = self._held.partition("=")
        if not equals:
            self._held = name
            return None
        self._count, self._state, self._value = self._count + 1, self._argument, Value()
        return f'{", " if self._count > 1 else "{"}"{name.strip()}": '

    def _argument(self) -> str | None:
        if not self._held:
            return None
        found, self._held = self._value.push(self._held, ",)")
        if self._held:
            self._state = self._name
        return found


def arguments_of(generation: str) -> JsonArguments | PythonArguments:
    """What reads the arguments of a call of this generation."""
    return PythonArguments() if TRAITS[generation].python_calls else JsonArguments()
