"""How long a prompt may become before it is tokenised. Indented, a nested schema grows with the square of its depth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TypeVar

from glmcore.errors import GlmError

# Characters. No context holds more: GLM-4's has 131,072 tokens, and a blank before a line of JSON is hardly ever one.
LONGEST_TOOLS = 2**19
LONGEST_PROMPT = 2**24
TOO_DEEP = "it is nested too deep"
Part = TypeVar("Part")


class Writer:
    """Writes JSON with four blanks a level, as the originals do, up to LONGEST_TOOLS characters in all."""

    def __init__(self) -> None:
        self.left = LONGEST_TOOLS

    def indented(self, value: object) -> str:
        """Errors: GlmError("usage") where it becomes too long, is nested too deep or is no JSON."""
        pieces: list[str] = []
        try:
            for piece in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
                pieces.append(piece)
                self.left -= len(piece)
                if self.left < 0:
                    what = f"the tools' descriptions become longer than {LONGEST_TOOLS} characters"
                    raise GlmError("usage", what, where="tools", hint="offer fewer, or with less nesting")
        except RecursionError:
            raise GlmError("usage", TOO_DEEP, where="tools") from None
        except (TypeError, ValueError):
            raise GlmError("usage", "the description of a tool is no JSON", where="tools") from None
        return "".join(pieces)


def bounded(parts: Iterable[Part]) -> Iterator[Part]:
    """``parts`` as long as their texts have no more than LONGEST_PROMPT characters, else GlmError("context-full")."""
    left = LONGEST_PROMPT
    for part in parts:
        left -= len(part) if isinstance(part, str) else 0
        if left < 0:
            raise GlmError("context-full", f"the prompt is longer than {LONGEST_PROMPT} characters", hint="shorten it")
        yield part
