"""ChatGLM-6B: a sentencepiece model that holds its special tokens, with markers for line breaks, tabs and blanks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from glmcore.chat.incremental import CLEAN_UP, Replacements, TextStream, clean_up
from glmcore.errors import GlmError
from glmcore.reading import parse_json
from glmcore.tokenizers.base import Tokenizer
from glmcore.tokenizers.files import content, damaged, foreign
from glmcore.tokenizers.spm import Model, PieceStream

LONGEST_BLANK = 80
BLANKS = {length: f"<|blank_{length}|>" for length in range(2, LONGEST_BLANK + 1)}
MARKERS = {"<n>": "\n", "<|tab|>": "\t", **{marker: " " * length for length, marker in BLANKS.items()}}
MARKER = re.compile("|".join(map(re.escape, MARKERS)))
MARKER_BEGUN = re.compile(r"<(n|\|[a-z_0-9]{0,8}\|?)?")
SPECIAL = ("[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")
# The original reads these out of any text, and loses the blanks beside them; [gMASK] it does not read. Without
# parse_special they are text: in the vocabulary they are control symbols, which sentencepiece makes of no text.
PARSED = ("[MASK]", "<sop>", "<eop>", "<pad>", "<unk>")
# Checkpoints published before April 2023 have this many image tokens before the text tokens, and this many in all.
IMAGE_TOKENS, VOCABULARY_WITH_IMAGES = 20000, 150528


def image_tokens(folder: Path, vocab_size: int) -> int:
    """How many ids lie before the text tokens: tokenizer_config.json says it, or the size of the model's vocabulary.

    Errors: GlmError("tokenizer-damaged").
    """
    path = folder / "tokenizer_config.json"
    try:
        settings = parse_json(content(path)) if os.path.exists(path) else {}
        stated = settings.get("num_image_tokens")
    except (ValueError, AttributeError) as error:
        raise damaged(path, "it is no JSON object") from error
    if isinstance(stated, int) and stated in (0, IMAGE_TOKENS):
        return stated
    return IMAGE_TOKENS if vocab_size == VOCABULARY_WITH_IMAGES else 0


class Glm1Tokenizer(Tokenizer):
    """ChatGLM-6B. What looks like a special token in a text stays text, unlike in the original (``parse_special``)."""

    generation = "v1"

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path, self.model, self.offset = path, Model(path), offset
        names = (*SPECIAL, "<pad>", "<unk>", "</s>")
        self.special = {name: self.model.processor.piece_to_id(name) + offset for name in names}
        if self.special["[gMASK]"] == self.special["<unk>"]:
            raise foreign(path, self.generation)
        self.vocab_size = self.model.size + offset
        self.eos_token_ids = (self.special["<eop>"],)
        self.pad_token_id = self.special["<pad>"]
        self.hidden_ids = frozenset(self.special[name] for name in PARSED)

    def encode(self, text: str, add_special_tokens: bool = False, parse_special: bool = False) -> list[int]:
        ids = self._parsed(text) if parse_special else self._ids(text)
        return self.frame(ids) if add_special_tokens else ids

    def _parsed(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in _split(text):
            ids += [self.special[part]] if part in PARSED else self._ids(part)
        return ids

    def encode_within(self, text: str) -> list[int]:
        return [index + self.offset for index in self.model.encode_within(_mark(text))]

    def _ids(self, text: str) -> list[int]:
        return [index + self.offset for index in self.model.encode(_mark(text))]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ``ids``. Errors: GlmError("usage") for an id outside the vocabulary."""
        shown = [int(index) for index in ids if not self.is_hidden(int(index), skip_special_tokens)]
        for index in shown:
            if not self.offset <= index < self.vocab_size:
                raise GlmError("usage", f"token id {index} is outside the vocabulary of {self.vocab_size}")
        return clean_up(_unmark(self.model.processor.decode_pieces([self.token(index) for index in shown])))

    def is_hidden(self, index: int, skip_special_tokens: bool) -> bool:
        return index == self.pad_token_id or (skip_special_tokens and index in self.hidden_ids)

    def text_stream(self, skip_special_tokens: bool) -> TextStream:
        return Glm1Stream(self, skip_special_tokens)

    def frame(self, ids: Sequence[int]) -> list[int]:
        return [*ids, self.special["[gMASK]"], self.special["<sop>"]]

    @property
    def control_ids(self) -> frozenset[int]:
        return super().control_ids | {index + self.offset for index in self.model.control_ids}

    def bytes_of(self, index: int) -> bytes:
        spelling = self.token(index)
        if not spelling or spelling in self.special:
            return spelling.encode()
        return MARKERS[spelling].encode() if spelling in MARKERS else self.model.bytes_of(index - self.offset)

    def token(self, index: int) -> str:
        return self.model.pieces[index - self.offset] if self.offset <= index < self.vocab_size else ""

    def index(self, token: str) -> int | None:
        index: int = self.model.processor.piece_to_id(token)
        return index + self.offset if self.model.pieces[index] == token else None


def _split(text: str) -> list[str]:
    """Text and special tokens in turn; blanks beside a special token are lost, as in the original."""
    parts = re.split(f"({'|'.join(map(re.escape, PARSED))})", text)
    for place in range(1, len(parts), 2):
        parts[place - 1] = parts[place - 1].rstrip()
        parts[place + 1] = parts[place + 1].lstrip()
    return [part for part in parts if part]


def _mark(text: str) -> str:
    marked = text.replace("\n", "<n>").replace("\t", "<|tab|>")
    return re.sub(" {2,}", lambda run: _blanks(len(run.group())), marked)


def _blanks(length: int) -> str:
    full, rest = divmod(length, LONGEST_BLANK)
    return BLANKS[LONGEST_BLANK] * full + BLANKS.get(rest, " " * rest)


def _unmark(text: str) -> str:
    return MARKER.sub(lambda marker: MARKERS[marker.group()], text)


class Glm1Stream:
    """Ids to text one by one; a marker may come in several pieces."""

    def __init__(self, tokenizer: Glm1Tokenizer, skip_special_tokens: bool) -> None:
        self.tokenizer, self.skip = tokenizer, skip_special_tokens
        self._pieces = PieceStream(tokenizer.model)
        self._held = ""
        self._clean = Replacements(CLEAN_UP)

    def push(self, token: int) -> str:
        # The output layer is wider than the vocabulary: an id beyond it has no text.
        if self.tokenizer.is_hidden(token, self.skip) or not self.tokenizer.token(token):
            return ""
        self._held += self._pieces.push(token - self.tokenizer.offset)
        last = self._held.rfind("<")
        waits = last >= 0 and MARKER_BEGUN.fullmatch(self._held, last)
        return self._clean.push(self._unmarked(last if waits else len(self._held)))

    def flush(self) -> str:
        self._held += self._pieces.flush()
        return self._clean.push(self._unmarked(len(self._held))) + self._clean.flush()

    def _unmarked(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return _unmark(text)
