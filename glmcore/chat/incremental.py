"""Token ids to text one by one, without half characters and without decoding anything twice.

A tokenizer says what each id stands for (``fragment``); the pieces that come out join to what ``decode`` gives for
all ids. Bytes wait until their character is complete; bytes that can never become one give U+FFFD as in ``decode``.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from glmcore.chat.stops import held_back

# What transformers does by default to every decoded text of the first three generations, in this order.
CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class TextStream(Protocol):
    """The state of one text that is being decoded."""

    def push(self, token: int) -> str: ...

    def flush(self) -> str: ...


class StreamingTokenizer(Protocol):
    def text_stream(self, skip_special_tokens: bool) -> TextStream: ...


class Detokenizer:
    """``push`` each id of an answer as it comes, ``flush`` at its end."""

    def __init__(self, tokenizer: StreamingTokenizer, skip_special_tokens: bool = True) -> None:
        self._stream = tokenizer.text_stream(skip_special_tokens)

    def push(self, token: int) -> str:
        """The text that is certain now; "" while a character is incomplete."""
        return self._stream.push(token)

    def flush(self) -> str:
        """What was held back."""
        return self._stream.flush()


def clean_up(text: str) -> str:
    for old, new in CLEAN_UP:
        text = text.replace(old, new)
    return text


class Replacements:
    """``str.replace`` with several (old, new) in turn, over a text that comes in pieces."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = pairs
        self._held = [""] * len(pairs)

    def push(self, text: str) -> str:
        for place, (old, new) in enumerate(self.pairs):
            if not text:
                break  # nothing new for the replacements that follow
            if not self._held[place] and old[0] not in text:
                continue
            done, text = "", self._held[place] + text
            if old in text:
                *parts, text = text.split(old)
                done = "".join(part + new for part in parts)
            cut = len(text) - held_back(text, (old,))
            self._held[place], text = text[cut:], done + text[:cut]
        return text

    def flush(self) -> str:
        """What was held back, each part through the replacements that follow it."""
        text = ""
        for place, (old, new) in enumerate(self.pairs):
            text = (self._held[place] + text).replace(old, new)
            self._held[place] = ""
        return text


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError), error
    return "\ufffd" * (error.end - error.start), error.end


# sentencepiece writes one replacement character per invalid byte, Python one per invalid sequence.
codecs.register_error("glmcore-each-byte", _each_byte)


class Utf8:
    """Bytes to text; an incomplete character waits."""

    def __init__(self, errors: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def push(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What waited cannot become a character any more."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
