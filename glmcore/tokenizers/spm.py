"""sentencepiece models: loading with clear errors, and decoding piece by piece."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from glmcore.chat.incremental import Utf8
from glmcore.tokenizers.files import content, damaged

# A character of Unicode's private use, which no vocabulary has.
STRANGER = "\ue000"


class Model:
    """A sentencepiece model with what its pieces stand for in a text."""

    def __init__(self, path: Path) -> None:
        try:
            # Loading from bytes: the library reads no path with unusual characters on every system.
            self.processor = SentencePieceProcessor(model_proto=content(path))
            self.size: int = self.processor.vocab_size()
            self._surfaces: dict[int, str | bytes] = {}
        except RuntimeError as error:
            raise damaged(path, (str(error) or type(error).__name__).splitlines()[0][:120]) from error

    @cached_property
    def pieces(self) -> list[str]:
        """The vocabulary's spelling of every id."""
        return self.processor.id_to_piece(list(range(self.size)))

    @cached_property
    def strips_every_blank(self) -> bool:
        """Whether a text's leading blanks all vanish in decoding, or only the first."""
        return self.processor.decode_pieces(["▁", "▁"]) == ""

    @cached_property
    def _anchor(self) -> str:
        return next(piece for piece in self.pieces if piece.isalnum())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.processor.encode(sound(text))
        return ids

    def bytes_of(self, index: int) -> bytes:
        """What an id stands for within a text, in UTF-8; the spelling of one that stands for nothing."""
        surface = self.surface(index)
        return surface if isinstance(surface, bytes) else (surface or self.pieces[index]).encode()
    def encode_within(self, text: str) -> list[int]:
        """The ids of ``text`` amid other text: between two STRANGERs, which no piece holds and no blank is dropped at.
        """
        ids = self.encode(STRANGER + text + STRANGER)
        return ids[self._before : len(ids) - self._behind]

    @cached_property
    def _before(self) -> int:
        return len(self.encode(STRANGER))

    @cached_property
    def _behind(self) -> int:
        return len(self.encode("a" + STRANGER)) - len(self.encode("a"))

    @cached_property
    def control_ids(self) -> frozenset[int]:
        processor = self.processor
        return frozenset(i for i in range(self.size) if processor.is_control(i) or processor.is_unknown(i))

    def surface(self, index: int) -> str | bytes:
        """What an id stands for within a text: its text, or one byte of a character."""
        if index not in self._surfaces:
            self._surfaces[index] = self._surface(index)
        return self._surfaces[index]

    def _surface(self, index: int) -> str | bytes:
        if self.processor.is_byte(index):
            return bytes([int(self.pieces[index][3:-1], 16)])
        text: str = self.processor.decode_pieces([self._anchor, self.pieces[index]])
        return text[len(self._anchor) :]

    def opening(self, index: int) -> str:
        """What an id stands for at the beginning of a text, where a blank is dropped."""
        text: str = self.processor.decode_pieces([self.pieces[index]])
        return text


def sound(text: str) -> str:
    """``text`` with U+FFFD for surrogates that stand alone, which no UTF-8 can hold."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class PieceStream:
    """Decodes the ids of a sentencepiece model one by one, as the library decodes them all."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._bytes = Utf8("glmcore-each-byte")
        self._at_start = True

    def push(self, index: int) -> str:
        surface = self.model.surface(index)
        if isinstance(surface, bytes):
            self._at_start = False
            return self._bytes.push(surface)
        return self._bytes.flush() + (self._first(index, surface) if self._at_start else surface)

    def push_text(self, text: str) -> str:
        """``text`` that stands for no id of the model, in its place."""
        self._at_start = self._at_start and not text
        return self._bytes.flush() + text

    def flush(self) -> str:
        return self._bytes.flush()

    def _first(self, index: int, surface: str) -> str:
        text = self.model.opening(index)
        dropped_a_blank = text != surface and not self.model.strips_every_blank
        self._at_start = not (text or dropped_a_blank)
        return text
