"""What every generation's tokenizer offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from glmcore.chat.incremental import TextStream
from glmcore.chat.messages import Message
from glmcore.chat.templates import Segment, Special, prompt


class Tokenizer(ABC):
    """Text to token ids and back.

    ``special`` maps special tokens to ids, ``vocab_size`` is the original's figure (GLM-4's leaves its special tokens
    out; ``len`` counts every id). ``parse_special`` reads special tokens out of text as far as the original does.
    """

    generation: str
    path: Path
    head: str = ""  # what the original writes before a prompt as text
    special: Mapping[str, int]
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int

    @abstractmethod
    def encode(self, text: str, add_special_tokens: bool = False, parse_special: bool = False) -> list[int]:
        """The ids of ``text``, with the tokens that frame an input of the model if ``add_special_tokens``."""

    @abstractmethod
    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ``ids``, as the original gives it."""

    @abstractmethod
    def text_stream(self, skip_special_tokens: bool) -> TextStream:
        """A fresh state for decoding ids one by one."""

    @abstractmethod
    def frame(self, ids: Sequence[int]) -> list[int]:
        """``ids`` with the tokens that the model expects around every input."""

    @abstractmethod
    def encode_within(self, text: str) -> list[int]:
        """The ids of ``text`` amid other text: no blank is put before it, none dropped behind it."""

    @abstractmethod
    def token(self, index: int) -> str:
        """The token of an id in the vocabulary's own spelling, "" where there is none."""

    @abstractmethod
    def index(self, token: str) -> int | None:
        """The id of a token in the vocabulary's own spelling, or None."""

    @abstractmethod
    def bytes_of(self, index: int) -> bytes:
        """What an id stands for within a text, in UTF-8; a special token's name; nothing where there is no token."""

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids that are no text."""
        return frozenset(self.special.values())

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token in the vocabulary's own spelling, with its id."""
        return {name: index for index in range(len(self)) if (name := self.token(index))} | dict(self.special)

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        return self.eos_token_ids

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        parse_special: bool = False,
    ) -> list[int]:
        """The generation's own prompt for OpenAI-shaped ``messages``, which stay as they are."""
        ids: list[int] = []
        for segment in self._segments(messages, tools, add_generation_prompt):
            if isinstance(segment, Special):
                ids.append(self.special[segment.name])
            else:
                ids += self.encode(segment, parse_special=parse_special)
        return self.frame(ids)

    def prompt_text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt as text, special tokens by their names."""
        segments = self._segments(messages, tools, add_generation_prompt)
        return self.head + "".join(part.name if isinstance(part, Special) else part for part in segments)

    def _segments(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, add_generation_prompt: bool
    ) -> list[Segment]:
        return prompt(messages, self.generation, tools=tools, add_generation_prompt=add_generation_prompt)
