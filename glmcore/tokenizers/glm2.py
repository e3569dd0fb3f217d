"""ChatGLM2-6B and ChatGLM3-6B: a sentencepiece model with special tokens appended to its vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from glmcore.chat.incremental import CLEAN_UP, Replacements, TextStream, clean_up
from glmcore.tokenizers.base import Tokenizer
from glmcore.tokenizers.files import foreign
from glmcore.tokenizers.spm import Model, PieceStream


class Glm2Tokenizer(Tokenizer):
    """ChatGLM2-6B: no special token is ever read out of a text, none appears in one."""

    generation = "v2"
    names: tuple[str, ...] = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, Model(path)
        if self.model.processor.piece_to_id("[gMASK]") != self.model.processor.unk_id():
            raise foreign(path, self.generation)  # ChatGLM-6B's model holds this token itself
        self.special = {name: self.model.size + place for place, name in enumerate(self.names)}
        self.vocab_size = self.model.size + len(self.names)
        self.eos_token_ids = (self.model.processor.eos_id(),)
        self.pad_token_id = self.model.processor.unk_id()
        self._silent = {self.model.processor.bos_id(), self.model.processor.eos_id(), self.pad_token_id}
        self._name_of = {index: name for name, index in self.special.items()}

    def encode(self, text: str, add_special_tokens: bool = False, parse_special: bool = False) -> list[int]:
        ids = self._ids(text, parse_special)
        return self.frame(ids) if add_special_tokens else ids

    def encode_within(self, text: str) -> list[int]:
        return self.model.encode_within(text)

    def _ids(self, text: str, parse_special: bool) -> list[int]:
        return self.model.encode(text)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return clean_up(self.model.processor.decode_pieces([self.token(int(index)) for index in ids]))

    def text_stream(self, skip_special_tokens: bool) -> TextStream:
        return Glm2Stream(self)

    def frame(self, ids: Sequence[int]) -> list[int]:
        return [self.special["[gMASK]"], self.special["sop"], *ids]

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        return {piece: index for index, piece in enumerate(self.model.pieces)} | dict(self.special)

    @property
    def control_ids(self) -> frozenset[int]:
        return super().control_ids | self.model.control_ids

    def bytes_of(self, index: int) -> bytes:
        if index in self._silent:
            return self.model.pieces[index].encode()
        ordinary = 0 <= index < self.model.size
        return self.model.bytes_of(index) if ordinary else self._name_of.get(index, "").encode()

    def token(self, index: int) -> str:
        if index in self._silent or not 0 <= index < self.model.size:
            return ""
        return self.model.pieces[index]

    def index(self, token: str) -> int | None:
        if token in self.special:
            return self.special[token]
        index: int = self.model.processor.piece_to_id(token)
        return index if self.model.pieces[index] == token else None


class Glm3Tokenizer(Glm2Tokenizer):
    """ChatGLM3-6B: with a token per role; ``parse_special`` reads these, and only these, out of a text."""

    generation = "v3"
    head = "[gMASK]sop"
    roles = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
    names = (*Glm2Tokenizer.names, *roles)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.eos_token_ids = (*self.eos_token_ids, self.special["<|user|>"], self.special["<|observation|>"])

    def _ids(self, text: str, parse_special: bool) -> list[int]:
        if not parse_special:
            return self.model.encode(text)
        ids: list[int] = []
        for part in filter(None, re.split(f"({'|'.join(map(re.escape, self.roles))})", text)):
            ids += [self.special[part]] if part in self.roles else self.model.encode(part)
        return ids

    def token(self, index: int) -> str:
        return self._name_of.get(index) or super().token(index)


class Glm2Stream:
    """Ids to text one by one; a special token is the text of its name, which ChatGLM2 leaves empty."""

    def __init__(self, tokenizer: Glm2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._pieces = PieceStream(tokenizer.model)
        self._clean = Replacements(CLEAN_UP)

    def push(self, token: int) -> str:
        spelling = self.tokenizer.token(token)
        ordinary = spelling and token < self.tokenizer.model.size
        return self._clean.push(self._pieces.push(token) if ordinary else self._pieces.push_text(spelling))

    def flush(self) -> str:
        return self._clean.push(self._pieces.flush()) + self._clean.flush()
