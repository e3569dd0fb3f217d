"""One answer in the making, as plain integers: what was asked, what came, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence as Ids
from dataclasses import dataclass, field

from glmcore.errors import GlmError


@dataclass
class Sequence:
    """A prompt and its answer so far.

    ``finish_reason`` is None while it runs, then "stop" (a stop token, or a stop text in what the tokens say), "length"
    (the budget is spent) or "cancelled" (nobody waits for the rest).
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int]
    output: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    def push(self, token: int) -> bool:
        """Take the next token; False when it is a stop token, which is never part of the answer."""
        if token in self.stop_ids:
            self.finish_reason = "stop"
            return False
        self.output.append(token)
        if len(self.output) >= self.max_new_tokens:
            self.finish_reason = "length"
        return True

    def end(self, reason: str) -> None:
        """It ends here, for a reason that its tokens do not show."""
        self.finish_reason = reason


def budget(prompt_tokens: int, max_new_tokens: int, context: int) -> int:
    """How many tokens the answer may have within the context; GlmError("context-full") where there is no room for one,
    or for the prompt alone where none is asked for; GlmError("usage") for fewer than none."""
    if max_new_tokens < 0:
        raise GlmError("usage", f"an answer has 0 tokens or more, not {max_new_tokens}", where="max_new_tokens")
    left = context - prompt_tokens
    if left < min(1, max_new_tokens):
        raise GlmError(
            "context-full",
            f"the prompt has {prompt_tokens} tokens, the context is {context}",
            hint=f"clear the history, or shorten the text by {min(1, max_new_tokens) - left} tokens or more",
        )
    return min(max_new_tokens, left)


def common_prefix(old: Ids[int], new: Ids[int]) -> int:
    """How many leading tokens the two have in common."""
    length = min(len(old), len(new))
    return next((i for i in range(length) if old[i] != new[i]), length)
