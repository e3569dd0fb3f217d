"""The models of transformers' own classes: a byte-level ``tokenizer.json``, read by the ``tokenizers`` library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from glmcore.chat.incremental import TextStream, Utf8
from glmcore.tokenizers.base import Tokenizer
from glmcore.tokenizers.files import content, damaged, foreign
from glmcore.tokenizers.glm4 import BYTE_OF
from glmcore.traits import TRAITS

END, ROLES = "<|endoftext|>", ("<|user|>", "<|assistant|>", "<|observation|>")


class HfTokenizer(Tokenizer):
    """Text that looks like a special token stays text, unlike in transformers: ``parse_special`` reads it."""

    def __init__(self, path: Path, generation: str) -> None:
        self.path, self.generation = path, generation
        self._tokenizer = _read(path)
        added = self._tokenizer.get_added_tokens_decoder()
        self.names = {index: token.content for index, token in added.items()}
        self.special = {name: index for index, name in self.names.items()}
        if not {END, *ROLES, *_framing(generation)} <= self.special.keys():
            raise foreign(path, generation)
        self._hidden = {index for index, token in added.items() if token.special}
        self._tokenizer.encode_special_tokens = True  # a special token's name in a text is text
        self._named = re.compile("|".join(map(re.escape, sorted(self.special, key=len, reverse=True))))
        self._count = max(self._tokenizer.get_vocab_size(), *(index + 1 for index in added))
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=False)
        self.eos_token_ids = tuple(self.special[name] for name in (END, "<|user|>", "<|observation|>"))
        self.pad_token_id = self.special[END]
        self.head = "".join(_framing(generation))

    def __len__(self) -> int:
        return self._count

    def encode(self, text: str, add_special_tokens: bool = False, parse_special: bool = False) -> list[int]:
        ids = self._parsed(text) if parse_special else self._ids(text)
        # What frames any input is what the file's own post-processor adds.
        return [*self._tokenizer.encode("", add_special_tokens=True).ids, *ids] if add_special_tokens else ids

    def encode_within(self, text: str) -> list[int]:
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        # A lone surrogate is no character that the library could take.
        sound = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        ids: list[int] = self._tokenizer.encode(sound, add_special_tokens=False).ids
        return ids

    def _parsed(self, text: str) -> list[int]:
        ids, begin = [], 0
        for found in self._named.finditer(text):
            ids += [*self._ids(text[begin : found.start()]), self.special[found.group()]]
            begin = found.end()
        return [*ids, *self._ids(text[begin:])]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        text: str = self._tokenizer.decode([int(index) for index in ids], skip_special_tokens=skip_special_tokens)
        return text

    def text_stream(self, skip_special_tokens: bool) -> TextStream:
        return HfStream(self, skip_special_tokens)

    def frame(self, ids: Sequence[int]) -> list[int]:
        return [*(self.special[name] for name in _framing(self.generation)), *ids]

    @property
    def control_ids(self) -> frozenset[int]:
        return frozenset(self._hidden)  # GLM-Z1's </think>, for one, is a token and text

    def bytes_of(self, index: int) -> bytes:
        return self.data(index, skip_special_tokens=False)

    def token(self, index: int) -> str:
        return self._tokenizer.id_to_token(index) or ""

    def index(self, token: str) -> int | None:
        index: int | None = self._tokenizer.token_to_id(token)
        return index

    def data(self, index: int, skip_special_tokens: bool) -> bytes:
        """The bytes of an id, none for a hidden or unknown one."""
        name = self.names.get(index)
        if name is not None:
            return b"" if skip_special_tokens and index in self._hidden else name.encode()
        return self.token(index).translate(BYTE_OF).encode("latin-1", "ignore")


class HfStream:
    """Ids to text one by one."""

    def __init__(self, tokenizer: HfTokenizer, skip_special_tokens: bool) -> None:
        self.tokenizer, self.skip, self._bytes = tokenizer, skip_special_tokens, Utf8("replace")

    def push(self, token: int) -> str:
        return self._bytes.push(self.tokenizer.data(token, self.skip))

    def flush(self) -> str:
        return self._bytes.flush()


def _framing(generation: str) -> tuple[str, ...]:
    return ("[gMASK]", "<sop>") if TRAITS[generation].framed else ()


def _read(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_buffer(content(path))
    except Exception as error:  # the library has no class of its own for what it cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise damaged(path, f"it is no tokenizer.json ({reason[:120]})") from error
