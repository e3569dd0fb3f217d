"""An answer as a row of blocks: texts, thoughts, and calls of tools, of which most dialects tell."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from glmcore.chat.calls import Arguments, Calling
from glmcore.chat.deltas import Delta
from glmcore.chat.reasoning import Thought
from glmcore.server.answers import Telling


@dataclass
class Block:
    """What has come of it; the text of a call is its arguments as JSON."""

    kind: Literal["text", "thought", "call"]
    number: int  # of the answer's blocks, from 0
    name: str = ""  # of the function that is called
    parts: list[str] = field(default_factory=list)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    logprobs: list[dict[str, Any]] = field(default_factory=list)  # of its tokens, where they were asked for

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def arguments(self) -> Any:
        """Those of a call; None where they were cut, or are nested deeper than can be read."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class Step(Enum):
    BEGIN, PART, END = range(3)


async def steps(telling: Telling) -> AsyncIterator[tuple[Step, Block, str]]:
    """Each block as it begins, its parts with their text, and as it ends. Errors: those of ``telling``."""
    block: Block | None = None
    async for delta in telling:
        kind, name, text = taken(delta)
        if block is None or block.kind != kind or isinstance(delta, Calling):
            if block is not None:
                yield Step.END, block, ""
            block = Block(kind, 0 if block is None else block.number + 1, name)
            yield Step.BEGIN, block, ""
        if text:
            block.parts.append(text)
            yield Step.PART, block, text
    if block is not None:
        yield Step.END, block, ""


async def blocks(telling: Telling) -> list[Block]:
    """All of them, whole."""
    return [block async for step, block, _ in steps(telling) if step is Step.END]


def taken(delta: Delta) -> tuple[Literal["text", "thought", "call"], str, str]:
    """Kind of block, name of a function, text."""
    if isinstance(delta, Calling):
        return "call", delta.name, ""
    if isinstance(delta, Arguments):
        return "call", "", delta.text
    return ("thought", "", delta.text) if isinstance(delta, Thought) else ("text", "", delta)
