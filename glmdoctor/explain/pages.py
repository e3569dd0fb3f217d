"""Reading a log of any length in pages of bounded size, and making its text plain.

Programs, terminals, containers and notebooks wrap the same words in colours, frames, escapes and line breaks. A page
says at small cost which words it has, and which follow each other: only what may stand on it is searched for.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import BinaryIO

from glmdoctor.explain.frames import SENTENCE, with_fields

PAGE = 1 << 16  # bytes
OVERLAP = 1 << 11  # bytes of the former page that are read again, for a message that lies across the cut
WORD_BYTES = bytes(b if (chr(b).isalnum() and b < 128) or b == ord("_") else ord(" ") for b in range(256))
ANSI = re.compile(
    rb"(?:\x1b|\\u001[bB]|\\x1[bB]|\\033|\\e|\^\[|#033)\[[0-?]*[ -/]*[@-~]"  # colours, as such and escaped
    rb"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]"  # window titles and links; single controls
)
ESCAPED = (b'{"', b'\\n"', b"\\n',", b'\\"', b"\\u00")
LETTERS = 3  # of a word's beginning that tell it from most others
BREAK = "\r"  # a line break inside one line of the file: it separates words, and counts no line
FRAME = " \t\xa0│┃║|"  # at the ends of lines: margins, and boxes around tracebacks
BOX, FOLD = "│ ", " │\n"  # how a row of a box begins, and how one ends that the text fills to its edge
QUOTED = FRAME + ">"  # at their beginning also the marks of mails
UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
QUOTES = '‘’“”`´"'


def pages(stream: BinaryIO) -> Iterator[Page]:
    """The stream's pages, cut at line ends where there are any; memory stays at a few pages."""
    source = _as_utf8(stream)
    line, rest = 1, b""
    while True:
        block = source.read(PAGE)
        data = rest + block
        if not block:
            if data:
                yield Page(data, line, last=True)
            return
        cut = data.rfind(b"\n") + 1 or (len(data) if len(data) > 4 * PAGE else 0)
        if not cut:
            rest = data
            continue
        yield Page(data[:cut], line, last=False)
        kept = _overlap(data, cut)
        line += data.count(b"\n", 0, kept)
        rest = data[kept:]


def _overlap(data: bytes, cut: int) -> int:
    """Where the next page begins: a little before the cut, at the start of a line if possible."""
    start = max(0, cut - OVERLAP)
    newline = data.find(b"\n", start, cut - 1)
    return newline + 1 if newline >= 0 else start if len(data) > 4 * PAGE else cut


def _as_utf8(stream: BinaryIO) -> _Chained | _Recoded:
    """Windows shells write UTF-16 with a mark at the beginning; everything else is taken as it comes."""
    head = stream.read(2)
    whole = _Chained(head, stream)
    if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return _Recoded(whole)
    return whole


class _Chained:
    """A stream of which the first bytes were read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self.head, self.stream = head, stream

    def read(self, size: int) -> bytes:
        head, self.head = self.head, b""
        return head + self.stream.read(size)


class _Recoded:
    """UTF-16 bytes as UTF-8."""

    def __init__(self, stream: _Chained) -> None:
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        return self.decoder.decode(data, final=not data).encode("utf-8")


class Page:
    """A run of whole lines."""

    def __init__(self, data: bytes, first_line: int, last: bool) -> None:
        self.data = ANSI.sub(b"", data) if b"\x1b" in data or (b"[" in data and _has_escaped_colours(data)) else data
        self.first_line = first_line
        self.last = last

    @property
    def words(self) -> list[bytes]:
        """The text's ASCII words in their order."""
        return self.flat.encode("ascii", "replace").translate(WORD_BYTES).split()

    @cached_property
    def pairs(self) -> set[tuple[bytes, bytes]]:
        """Each word with the first letters of the one that follows it."""
        words = self.words
        return set(zip(words, [word[:LETTERS] for word in words[1:]], strict=False))

    @cached_property
    def distinct(self) -> frozenset[bytes]:
        return frozenset(self.words)

    @cached_property
    def vocabulary(self) -> bytes:
        """Every word once, between blanks, but for numbers: a part of a number says nothing."""
        return b" ".join([word for word in self.distinct if not word.isdigit()])

    @cached_property
    def text(self) -> str:
        """The plain text in lower case; paths of Windows as those of others."""
        return self.plain.lower().replace("\\", "/")

    @cached_property
    def plain(self) -> str:
        """Without colours, frames, escapes and repeated blanks; every kind of quote is an apostrophe."""
        text = _decoded(self.data).replace("\r\n", "\n")
        if any(mark in self.data for mark in ESCAPED):
            text = _unescaped(text)
        for quote in QUOTES:
            text = text.replace(quote, "'")
        return with_fields(_single_blanks(_unframed(_unfolded(text.replace("\\'", "'").replace("\\\\", "\\")))))

    @cached_property
    def flat(self) -> str:
        """The text as one line: a message that a frame or a window broke is whole again."""
        return self.text.replace("\n", " ").replace(BREAK, " ")

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def line_of(self, offset: int) -> int:
        """The number in the file, from 1, of the line at ``offset`` of ``flat``."""
        return self.first_line + bisect_right(self._starts, offset) - 1

    def words_at(self, offset: int, limit: int = 240) -> str:
        """The line at ``offset``, for showing; of a sentence about a traceback, the line that it stands behind."""
        start = self._start_of_words(offset)
        if self.text.startswith(SENTENCE, start):
            start = self._start_of_words(start - 1)
        shown = self.plain if len(self.plain) == len(self.text) else self.text  # a few letters grow in lower case
        return shown[start : start + limit].split("\n", 1)[0].split(BREAK, 1)[0]

    def _start_of_words(self, offset: int) -> int:
        return max(self.text.rfind("\n", 0, offset), self.text.rfind(BREAK, 0, offset)) + 1


def _has_escaped_colours(data: bytes) -> bool:
    return any(mark in data for mark in (b"\\u001b[", b"\\u001B[", b"\\x1b[", b"\\033[", b"\\e[", b"^[[", b"#033["))


def _unframed(text: str) -> str:
    for mark in ("\n", BREAK) if BREAK in text else ("\n",):
        lines = text.split(mark)
        if ">" in text:
            lines = [line.lstrip(QUOTED) for line in lines]
        text = mark.join([line.strip(FRAME) for line in lines])
    return text


def _unfolded(text: str) -> str:
    """Paths that a box broke in the middle, whole again: the rest moves up a row, so that lines keep their count."""
    if FOLD not in text:
        return text
    rows = text.split(FOLD)
    for i, row in enumerate(rows[:-1]):
        last = row[max(row.rfind(" "), row.rfind("\n")) + 1 :]
        if ("/" in last or "\\" in last) and rows[i + 1].startswith(BOX):
            rest, blank, after = rows[i + 1][len(BOX) :].partition(" ")
            rows[i], rows[i + 1] = row + rest, BOX + blank + after
    return FOLD.join(rows)


def _single_blanks(text: str) -> str:
    text = text.replace("\t", " ").replace("\xa0", " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def _decoded(data: bytes) -> str:
    """UTF-8; else the Chinese code page of Windows; else whatever can be read."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("gb18030")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def _unescaped(text: str) -> str:
    """Inside JSON and notebooks: escaped breaks, quotes and letters as what they stand for; lines keep their count."""
    text = UNICODE_ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text)
    for escaped in ("\\r\\n", "\\n\\t", "\\n"):
        text = text.replace(escaped, BREAK)
    return text.replace('\\"', '"')
