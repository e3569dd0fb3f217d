"""The original's cleaning of an answer, done while the answer is still coming: each character is looked at once."""

from __future__ import annotations

from glmcore.chat.incremental import Replacements
from glmcore.chat.responses import TRAINED_ON, WIDE, YEAR, widen
from glmcore.traits import TRAITS


class AnswerStream:
    """Pieces of generated text in, pieces of the cleaned answer out; joined they are what ``clean_text`` gives.

    What may still change waits: blanks that may turn out to be the end, the beginning of the marker that stands for a
    year, and punctuation whose width the next character decides (``wide_punctuation``). begun: whether the answer goes
    on from a text, so that the blanks it begins with belong to it.
    """

    def __init__(self, generation: str, begun: bool = False) -> None:
        self._year = Replacements(((TRAINED_ON, YEAR),))
        self._wide = _Widening() if TRAITS[generation].wide_punctuation else None
        self._begun = begun
        self._blanks = ""

    def push(self, text: str) -> str:
        """The text that is certain now."""
        return self._widened(self._year.push(self._stripped(text)))

    def flush(self) -> str:
        """What was held back, without the blanks at the end."""
        rest = self._widened(self._year.flush())
        return rest + self._wide.flush() if self._wide else rest

    def _stripped(self, text: str) -> str:
        text = self._blanks + text
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        kept = text.rstrip()
        self._blanks = text[len(kept) :]
        return kept

    def _widened(self, text: str) -> str:
        return self._wide.push(text) if self._wide else text


class Unchanged:
    """The same for an answer that a grammar has made: all of it as it is, behind the blanks that it begins with."""

    def __init__(self) -> None:
        self._begun = False

    def push(self, text: str) -> str:
        text = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        return text

    def flush(self) -> str:
        return ""


class _Widening:
    """``widen`` over pieces: one character of context before, and one held back until the next is known."""

    def __init__(self) -> None:
        self._before = self._held = ""

    def push(self, text: str) -> str:
        text = self._held + text
        self._held = text[-1:] if text[-1:] in WIDE else ""
        return self._let_go(text[: len(text) - len(self._held)])

    def flush(self) -> str:
        text, self._held = self._held, ""
        return self._let_go(text)

    def _let_go(self, text: str) -> str:
        wide = widen(self._before + text)[len(self._before) :]
        self._before = (self._before + wide)[-1:]
        return wide
