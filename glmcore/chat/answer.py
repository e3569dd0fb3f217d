"""The original's cleaning of an answer, done while the answer is still coming."""

from __future__ import annotations

from glmcore.chat.responses import TRAINED_ON, WIDE, clean_text
from glmcore.chat.stops import held_back


class AnswerStream:
    """Pieces of generated text in, pieces of the cleaned answer out; joined they are what ``clean_text`` gives.

    What may still change waits: white space that may turn out to be the end, the beginning of a marker that stands for
    a year, and (v1) punctuation whose width the next character decides.
    """

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self._raw, self._given = "", 0

    def push(self, text: str) -> str:
        self._raw += text
        certain = self._raw[: len(self._raw) - held_back(self._raw, (TRAINED_ON,))].rstrip()
        return self._give(certain.rstrip("".join(WIDE)) if self.generation == "v1" else certain)

    def flush(self) -> str:
        return self._give(self._raw)

    def _give(self, certain: str) -> str:
        cleaned = clean_text(certain, self.generation)
        piece, self._given = cleaned[self._given :], max(self._given, len(cleaned))
        return piece
