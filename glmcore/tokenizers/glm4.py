"""GLM-4-9B: byte pairs from a tiktoken rank file, and special tokens after them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import tiktoken

from glmcore.chat.incremental import TextStream, Utf8
from glmcore.tokenizers.base import Tokenizer
from glmcore.tokenizers.files import content, damaged
from glmcore.tokenizers.ranks import parse_ranks

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LONGEST_BLANK = 500_000
# How byte-level vocabularies are written down: each byte as one printable character, a blank as Ġ.
UNPRINTABLE = [byte for byte in range(256) if not (33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174)]
PRINTABLE = {byte: 256 + place for place, byte in enumerate(UNPRINTABLE)}
BYTE_OF = {character: byte for byte, character in PRINTABLE.items()}
SPECIAL = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip


class Glm4Tokenizer(Tokenizer):
    """GLM-4-9B. Text that looks like a special token stays text, unlike in the original: ``parse_special`` reads it."""

    generation = "glm4"
    head = "[gMASK]<sop>"

    def __init__(self, path: Path) -> None:
        self.path, ranks = path, _ranks(path)
        self.vocab_size = len(ranks)
        self.special = {name: len(ranks) + place for place, name in enumerate(SPECIAL)}
        self.names = {index: name for name, index in self.special.items()}
        self._encoding = tiktoken.Encoding("glm4", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=self.special)
        self._index_of = ranks
        self._bytes_of = {index: data for data, index in ranks.items()}
        self.eos_token_ids = tuple(self.special[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>"))
        self.pad_token_id = self.special["<|endoftext|>"]

    def __len__(self) -> int:
        return self.vocab_size + len(SPECIAL)

    def encode(self, text: str, add_special_tokens: bool = False, parse_special: bool = False) -> list[int]:
        read = set(SPECIAL) if parse_special else set()
        ids = [
            index
            for portion in _portions(text)
            for index in self._encoding.encode(portion, allowed_special=read, disallowed_special=())
        ]
        return self.frame(ids) if add_special_tokens else ids

    def encode_within(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ``ids``. As in the original, blanks surround special tokens, and an id that the vocabulary lacks
        repeats the text since the last special token."""
        texts: list[str] = []
        run = _Run()
        for index in map(int, ids):
            if index not in self.names:
                run.add(self.data(index))
            elif not skip_special_tokens:
                texts += filter(None, (run.text(), self.names[index]))
                run = _Run()
        return " ".join([*texts, run.text()] if run.used else texts)

    def text_stream(self, skip_special_tokens: bool) -> TextStream:
        return Glm4Stream(self, skip_special_tokens)

    def frame(self, ids: Sequence[int]) -> list[int]:
        return [self.special["[gMASK]"], self.special["<sop>"], *ids]

    def data(self, index: int) -> bytes | None:
        """The bytes of an ordinary id."""
        return self._bytes_of.get(index)

    def bytes_of(self, index: int) -> bytes:
        return self.names[index].encode() if index in self.names else self.data(index) or b""

    def token(self, index: int) -> str:
        if index in self.names:
            return self.names[index]
        return (self.data(index) or b"").decode("latin-1").translate(PRINTABLE)

    def index(self, token: str) -> int | None:
        if token in self.special:
            return self.special[token]
        try:
            return self._index_of.get(token.translate(BYTE_OF).encode("latin-1"))
        except UnicodeEncodeError:
            return None


def _portions(text: str) -> Iterator[str]:
    """The text, cut within runs of more blanks than the library's pattern can take."""
    start = 0
    if len(text) > LONGEST_BLANK:
        for run in re.finditer(r"\s{2,}", text):
            for cut in range(run.start() + LONGEST_BLANK, run.end(), LONGEST_BLANK):
                yield text[start:cut]
                start = cut
    yield text[start:]


class _Run:
    """The bytes between two special tokens."""

    def __init__(self) -> None:
        self.used = False
        self._repeated, self._data = "", bytearray()

    def add(self, data: bytes | None) -> None:
        self.used = True
        if data is None:
            self._repeated += self._data.decode("utf-8", "replace")
        else:
            self._data += data

    def text(self) -> str:
        return self._repeated + self._data.decode("utf-8", "replace")


class Glm4Stream:
    """Ids to text one by one, with blanks around special tokens where these are shown. Unknown ids have no text."""

    def __init__(self, tokenizer: Glm4Tokenizer, skip_special_tokens: bool) -> None:
        self.tokenizer, self.skip = tokenizer, skip_special_tokens
        self._bytes = Utf8("replace")
        self._begun = self._after_special = False

    def push(self, token: int) -> str:
        name = self.tokenizer.names.get(token)
        if name is None:
            return self._ordinary(self._bytes.push(self.tokenizer.data(token) or b""))
        if self.skip:
            return ""
        text = self.flush()
        blank = " " if self._begun else ""
        self._begun = self._after_special = True
        return text + blank + name

    def flush(self) -> str:
        return self._ordinary(self._bytes.flush())

    def _ordinary(self, text: str) -> str:
        if not text:
            return ""
        blank = " " if self._after_special else ""
        self._begun, self._after_special = True, False
        return blank + text


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        return parse_ranks(content(path))
    except ValueError as error:
        raise damaged(path, str(error)) from error
