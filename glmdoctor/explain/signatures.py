"""Signatures: the words by which a log shows a problem, as data.

A signature's text is literal, with ``*`` for a few words that vary, ``{non-ascii}`` for such a stretch with a letter
outside ASCII, ``^`` at the beginning and ``$`` at the end for the ends of a line. A number is one as a whole. Case,
kinds of quotes and slashes, and line breaks do not matter. It is compared letter by letter where its longest word
stands, so no text can make it slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from glmdoctor import knowledge
from glmdoctor.explain.listings import CHECKS
from glmdoctor.explain.pages import BREAK, QUOTES, WORD_BYTES, Page, Words

GAP = 240  # characters that one `*` spans at most
TRIES = 64  # places per page where a signature's first piece may stand before it is given up
MANY = 256  # places per page of a word from which the whole first piece is sought instead
WORD = re.compile(r"(?<![a-z0-9_])[a-z0-9_]+(?![a-z0-9_])")
JOINT = re.compile(r"(\*|\{non-ascii\})")


@dataclass(frozen=True, eq=False)
class Pattern:
    """One signature's text, taken apart. Equal texts are one object."""

    pieces: tuple[str, ...]
    foreign: tuple[bool, ...]  # must the stretch before this piece hold a letter outside ASCII?
    anchor: Words  # one or two words of the first piece that stand whole in the log; empty where there are none
    offset: int  # of the anchor in the first piece
    fragment: bytes  # else a part of a word
    needed: frozenset[bytes]  # whole words without which it cannot match
    at_start: bool
    at_end: bool
    check: str = ""  # what else the text around must say, a name of `listings`

    @classmethod
    @cache
    def parse(cls, text: str, check: str = "") -> Pattern:
        plain = text.lower().replace("\\", "/")
        for quote in QUOTES:
            plain = plain.replace(quote, "'")
        at_start, at_end = plain.startswith("^"), plain.endswith("$")
        split = JOINT.split(plain[at_start : len(plain) - at_end])
        pieces, joints = split[::2], ["", *split[1::2]]
        foreign = tuple(joint == "{non-ascii}" for joint in joints)
        anchor, offset = _anchor(pieces[0])
        fragment = "" if anchor else max(WORD.findall(pieces[0]), key=len, default="")
        needed = frozenset(match.group().encode() for piece in pieces for match in _inner(piece))
        return cls(tuple(pieces), foreign, anchor, offset, fragment.encode(), needed, at_start, at_end, check)

    def starts(self, page: Page, places: Sequence[int]) -> list[int]:
        """Where in ``page.flat`` the first piece stands, the first and the last times; ``places`` are the anchor's."""
        if not self.anchor or len(places) > MANY:
            return self._found(page)
        piece, offset, flat = self.pieces[0], self.offset, page.flat
        starts = [place - offset for place in places if flat.startswith(piece, place - offset)]
        return starts if len(starts) <= 2 * TRIES else starts[:TRIES] + starts[-TRIES:]

    def _found(self, page: Page) -> list[int]:
        """Likewise, by search from both ends."""
        piece, flat, ahead, behind = self.pieces[0], page.flat, [], []
        start = flat.find(piece)
        while start >= 0 and len(ahead) < TRIES:
            ahead.append(start)
            start = flat.find(piece, start + 1)
        end = flat.rfind(piece, start) if start >= 0 else -1
        while end >= 0 and len(behind) < TRIES:
            behind.append(end)
            end = flat.rfind(piece, start, end + len(piece) - 1)
        return ahead + behind[::-1]

    def matches(self, page: Page, start: int) -> bool:
        """Is the first piece, which stands at ``start``, followed by the others?"""
        if self.at_start and start > 0 and page.text[start - 1] not in "\n" + BREAK:
            return False
        end = start + len(self.pieces[0])
        for piece, foreign in zip(self.pieces[1:], self.foreign[1:], strict=True):
            found = page.flat.find(piece, end, end + GAP + len(piece))
            if found < 0 or page.text.count("\n", end, found) > 1 or (foreign and page.flat[end:found].isascii()):
                return False
            end = found + len(piece)
        rest = page.text[end : end + 2].lstrip(" '.")
        if self.at_end and rest and rest[0] not in "\n" + BREAK:
            return False
        if page.flat[end - 1 : end + 1].isdecimal() and end < len(page.flat):
            return False  # the number goes on
        return not self.check or CHECKS[self.check](page.flat, start)


def _inner(piece: str) -> list[re.Match[str]]:
    """The words that do not touch the piece's edges, where they might go on in the log."""
    return [match for match in WORD.finditer(piece) if match.start() > 0 and match.end() < len(piece)]


def _anchor(piece: str) -> tuple[Words, int]:
    """The words by which a piece is looked up, and their offset: the longest, with its neighbour where that is whole.

    Words inside the piece stand whole in the log. Those at its edges may go on there: to the left only where they begin
    with `_`, so that the first word of several is whole as well.
    """
    words = piece.encode("ascii", "replace").translate(WORD_BYTES).split(b" ")
    whole = range(piece[:1] in "_", len(words) - 1)  # of the last word only the beginning is known
    best = max(whole, key=lambda i: (len(words[i]) > 0, i + 1 in whole, len(words[i])), default=None)
    if best is None or not words[best]:
        return (), 0
    anchor = words[best : best + 2] if best + 1 in whole else words[best : best + 1]
    return tuple(anchor), sum(map(len, words[:best])) + best


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
    signatures += _numbered(data["codes"])
    codes = {code: v if isinstance(v, str) else Own(v["title"], v["remedy"]) for code, v in data["glmcore"].items()}
    signatures += [_code(code, meaning) for code, meaning in codes.items()]
    consequences = {cause: tuple(problems) for cause, problems in data["consequences"].items()}
    return Book(tuple(signatures), consequences, tuple(Pattern.parse(text) for text in data["harmless"]), codes)


def _signature(problem: str, row: Mapping[str, object]) -> Signature:
    def patterns(key: str) -> tuple[Pattern, ...]:
        return tuple(Pattern.parse(text) for text in row.get(key, ()))  # type: ignore[attr-defined]

    pattern = Pattern.parse(str(row["text"]), str(row.get("check", "")))
    return Signature(problem, float(str(row["weight"])), pattern, patterns("with"), patterns("without"))


def _numbered(codes: Mapping[str, Any]) -> Iterator[Signature]:
    """An error code of CUDA's in the words of every program that tells it by its number."""
    for number, problem in codes["problems"].items():
        for text in codes["texts"]:
            yield Signature(problem, codes["weight"], Pattern.parse(text.format(number)))


def _code(code: str, meaning: str | Own) -> Signature:
    problem = meaning if isinstance(meaning, str) else own_id(code)
    return Signature(problem, 0.99, Pattern.parse(f"glmcore: error[{code}]:"))


def own_id(code: str) -> str:
    return f"glmcore-{code}"
