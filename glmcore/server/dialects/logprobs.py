"""Tokens and their logprobs as OpenAI's API writes them: a list of objects in chat, four lists in completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glmcore.chat.incremental import Detokenizer, TextStream
from glmcore.engine.logprobs import Logprob
from glmcore.tokenizers import Tokenizer

# What OpenAI's API says in place of minus infinity, which no JSON can carry.
LOWEST = -9999.0


def spelled(data: bytes) -> str:
    """A token's text; of one that is no whole characters its bytes, as OpenAI's completions write them."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_logprob(tokenizer: Tokenizer, logprob: Logprob) -> dict[str, Any]:
    """One entry of a chat choice's ``logprobs.content``."""
    top = [_entry(tokenizer, token, value) for token, value in logprob.top]
    return {**_entry(tokenizer, logprob.token, logprob.value), "top_logprobs": top}


def _entry(tokenizer: Tokenizer, token: int, value: float) -> dict[str, Any]:
    data = tokenizer.bytes_of(token)
    return {"token": spelled(data), "logprob": max(value, LOWEST), "bytes": list(data)}


class PromptText:
    """Ids of a prompt to text one by one: special tokens, which frame it, have none."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._detokenizer, self._silent = Detokenizer(tokenizer), frozenset(tokenizer.special.values())

    def push(self, token: int) -> str:
        return "" if token in self._silent else self._detokenizer.push(token)

    def flush(self) -> str:
        return self._detokenizer.flush()


class TextLogprobs:
    """The logprobs of a completion, token by token, with each token's place in the text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self._offset = tokenizer, 0
        self._stream: TextStream = Detokenizer(tokenizer)
        self._parts: list[tuple[str, float | None, dict[str, float] | None, int]] = []

    def __len__(self) -> int:
        return len(self._parts)

    def push(self, logprob: Logprob) -> None:
        top: dict[str, float] = {}
        for token, value in (*logprob.top, (logprob.token, logprob.value)):
            top.setdefault(self._spelled(token), max(value, LOWEST))
        self._add(logprob.token, max(logprob.value, LOWEST), top)

    def push_prompt(self, tokens: Sequence[int], found: Sequence[Logprob | None], text: str) -> None:
        """Those of a prompt that is told before the answer, ``text``; what has no logprob has null."""
        self._stream = PromptText(self.tokenizer)
        for token, logprob in zip(tokens, found, strict=True):
            if logprob is None:
                self._add(token, None, None)
            else:
                self.push(logprob)
            self._offset = min(self._offset, len(text))  # the tokens' text need not be what they were made of
        self._stream, self._offset = Detokenizer(self.tokenizer), len(text)

    def _add(self, token: int, value: float | None, top: dict[str, float] | None) -> None:
        self._parts.append((self._spelled(token), value, top, self._offset))
        self._offset += len(self._stream.push(token))

    def _spelled(self, token: int) -> str:
        return spelled(self.tokenizer.bytes_of(token))

    def lists(self, first: int = 0) -> dict[str, list[Any]]:
        """From the token of that number on."""
        parts = self._parts[first:]
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {name: [part[place] for part in parts] for place, name in enumerate(names)}
