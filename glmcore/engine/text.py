"""An answer's tokens as text, piece by piece, until one of its stop texts appears."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from glmcore.chat.incremental import Detokenizer, TextStream
from glmcore.chat.stops import StopMatcher
from glmcore.tokenizers import Tokenizer


class AnswerText:
    """``push`` each token, ``flush`` at the end; both give what is certain to be told.

    shown: special tokens that stand in the text by their names. keeps_stop: whether the text ends behind the stop text
    that ends it, and not before. stream: what decodes the tokens, where not as usual.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str] = (), shown: Collection[str] = (), keeps_stop: bool = False,
        stream: TextStream | None = None,
    ) -> None:  # fmt: skip
        self._detokenizer, self._matcher = stream or Detokenizer(tokenizer), StopMatcher(stop, keeps_stop)
        special = tokenizer.special
        self._names = {special[name]: name for name in shown if name in special}

    @property
    def stopped(self) -> bool:
        """Whether a stop text has appeared, with which the text ends."""
        return self._matcher.stopped

    @property
    def found(self) -> str | None:
        """The stop text that has appeared."""
        return self._matcher.found

    def push(self, token: int) -> str:
        name = self._names.get(token)
        text = self._detokenizer.push(token) if name is None else self._detokenizer.flush() + name
        return self._matcher.push(text)

    def flush(self) -> str:
        return self._matcher.push(self._detokenizer.flush()) + self._matcher.flush()
