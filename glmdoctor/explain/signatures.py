"""Signatures: the words by which a log shows a problem, as data.

A signature's text is literal, with ``*`` for a few words that vary, ``{non-ascii}`` for such a stretch with a letter
outside ASCII, ``^`` at the beginning and ``$`` at the end for the ends of a line. Case, kinds of quotes and line breaks
do not matter. It is searched by plain substring search, so no text can make it slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from glmdoctor import knowledge
from glmdoctor.explain.pages import BREAK, QUOTES, Page

GAP = 240  # characters that one `*` spans at most
TRIES = 64  # places per page where a signature's first piece may stand before it is given up
WORD = re.compile(r"(?<![a-z0-9_])[a-z0-9_]+(?![a-z0-9_])")
JOINT = re.compile(r"(\*|\{non-ascii\})")


@dataclass(frozen=True, eq=False)
class Pattern:
    """One signature's text, taken apart. Equal texts are one object."""

    pieces: tuple[str, ...]
    foreign: tuple[bool, ...]  # must the stretch before this piece hold a letter outside ASCII?
    words: frozenset[str]  # whole words without which it cannot match
    parts: tuple[str, ...]  # parts of words, likewise
    at_start: bool
    at_end: bool

    @classmethod
    @cache
    def parse(cls, text: str) -> Pattern:
        plain = text.lower()
        for quote in QUOTES:
            plain = plain.replace(quote, "'")
        at_start, at_end = plain.startswith("^"), plain.endswith("$")
        split = JOINT.split(plain[at_start : len(plain) - at_end])
        pieces, joints = split[::2], ["", *split[1::2]]
        words = frozenset(word for piece in pieces for word in _words(piece, whole=True))
        parts = tuple(word for piece in pieces for word in _words(piece, whole=False))
        foreign = tuple(joint == "{non-ascii}" for joint in joints)
        return cls(tuple(pieces), foreign, words, parts, at_start, at_end)

    def possible(self, page: Page) -> bool:
        """Does the page hold all its words? Cheap, and mostly False."""
        if not self.words <= page.words:
            return False
        for part in self.parts:
            if not page.holds(part):
                return False
        return bool(self.words or self.parts) or not page.is_ascii

    def first(self, page: Page) -> int | None:
        """The offset in ``page.flat`` of the first match."""
        return next(self.matches(page), None)

    def matches(self, page: Page) -> Iterator[int]:
        start = -1
        if len(self.pieces) > 1 and not all(piece in page.flat for piece in self.pieces):
            return
        for _ in range(TRIES):
            start = page.flat.find(self.pieces[0], start + 1)
            if start < 0:
                return
            if self._matches_at(page, start):
                yield start

    def last(self, page: Page) -> int | None:
        """The offset of the last match, looked for from the end."""
        start = len(page.flat)
        for _ in range(TRIES):
            start = page.flat.rfind(self.pieces[0], 0, start + len(self.pieces[0]) - 1)
            if start < 0:
                return None
            if self._matches_at(page, start):
                return start
        return None

    def _matches_at(self, page: Page, start: int) -> bool:
        if self.at_start and start > 0 and page.text[start - 1] not in "\n" + BREAK:
            return False
        end = start + len(self.pieces[0])
        for piece, foreign in zip(self.pieces[1:], self.foreign[1:], strict=True):
            found = page.flat.find(piece, end, end + GAP + len(piece))
            if found < 0 or page.text.count("\n", end, found) > 1 or (foreign and page.flat[end:found].isascii()):
                return False
            end = found + len(piece)
        rest = page.text[end : end + 2].lstrip(" '.")
        return not self.at_end or not rest or rest[0] in "\n" + BREAK


def _words(piece: str, whole: bool) -> Iterator[str]:
    """The words that end inside the piece, or those at its edges, which may go on in the log."""
    for match in WORD.finditer(piece):
        if whole == (match.start() > 0 and match.end() < len(piece)):
            yield match.group()


@dataclass(frozen=True)
class Signature:
    problem: str
    weight: float  # how surely the text means the problem, 0 to 1
    pattern: Pattern
    only_with: tuple[Pattern, ...] = ()  # one of these must stand somewhere in the log
    not_with: tuple[Pattern, ...] = ()  # none of these


@dataclass(frozen=True)
class Own:
    """An error code of glmcore that stands for no problem of the catalogue."""

    title: Mapping[str, str]
    remedy: Mapping[str, str]


@dataclass(frozen=True)
class Book:
    signatures: tuple[Signature, ...]
    consequences: Mapping[str, tuple[str, ...]]  # problem → those that follow from it
    harmless: tuple[Pattern, ...]  # lines that look like faults and are not
    codes: Mapping[str, str | Own]  # glmcore's error codes

    @cached_property
    def by_problem(self) -> Mapping[str, tuple[Signature, ...]]:
        groups: dict[str, list[Signature]] = {}
        for signature in self.signatures:
            groups.setdefault(signature.problem, []).append(signature)
        return {problem: tuple(group) for problem, group in groups.items()}

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        """Every pattern once."""
        conditions = (p for s in self.signatures for p in (*s.only_with, *s.not_with))
        return tuple(dict.fromkeys([*(s.pattern for s in self.signatures), *conditions, *self.harmless]))


@cache
def book() -> Book:
    """The signatures that ship with the package."""
    data = knowledge.signatures()
    signatures = [_signature(problem, row) for problem, rows in data["problems"].items() for row in rows]
    codes = {code: v if isinstance(v, str) else Own(v["title"], v["remedy"]) for code, v in data["glmcore"].items()}
    signatures += [_code(code, meaning) for code, meaning in codes.items()]
    consequences = {cause: tuple(problems) for cause, problems in data["consequences"].items()}
    return Book(tuple(signatures), consequences, tuple(Pattern.parse(text) for text in data["harmless"]), codes)


def _signature(problem: str, row: Mapping[str, object]) -> Signature:
    def patterns(key: str) -> tuple[Pattern, ...]:
        return tuple(Pattern.parse(text) for text in row.get(key, ()))  # type: ignore[attr-defined]

    return Signature(
        problem, float(str(row["weight"])), Pattern.parse(str(row["text"])), patterns("with"), patterns("without")
    )


def _code(code: str, meaning: str | Own) -> Signature:
    problem = meaning if isinstance(meaning, str) else own_id(code)
    return Signature(problem, 0.99, Pattern.parse(f"glmcore: error[{code}]:"))


def own_id(code: str) -> str:
    return f"glmcore-{code}"
