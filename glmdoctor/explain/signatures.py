"""Signatures: the words by which a log shows a problem, as data.

A signature's text is literal, with ``*`` for a few words that vary, ``{non-ascii}`` for such a stretch with a letter
outside ASCII, ``^`` at the beginning and ``$`` at the end for the ends of a line. A number is one as a whole. Case,
kinds of quotes and slashes, and line breaks do not matter. It is compared letter by letter where its longest word
stands, so no text can make it slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

from glmdoctor import knowledge
from glmdoctor.explain.listings import CHECKS
from glmdoctor.explain.pages import BREAK, LETTERS, QUOTES, Page

GAP = 240  # characters that one `*` spans at most
TRIES = 64  # places per page where a signature's first piece may stand before it is given up
WORD = re.compile(r"(?<![a-z0-9_])[a-z0-9_]+(?![a-z0-9_])")
JOINT = re.compile(r"(\*|\{non-ascii\})")


@dataclass(frozen=True, eq=False)
class Pattern:
    """One signature's text, taken apart. Equal texts are one object."""

    pieces: tuple[str, ...]
    foreign: tuple[bool, ...]  # must the stretch before this piece hold a letter outside ASCII?
    pair: tuple[bytes, bytes] | None  # a whole word and how the next one begins: the longest two that it has
    word: bytes  # else one whole word
    fragment: bytes  # else the longest part of a word
    needed: frozenset[bytes]  # whole words without which it cannot match
    at_start: bool
    at_end: bool
    check: str = ""  # what else the text around must say, a name of `listings`

    @cached_property
    def longest(self) -> str:
        return max(self.pieces[1:], key=len, default="")

    @cached_property
    def is_ascii(self) -> bool:
        return not any(self.foreign) and all(piece.isascii() for piece in self.pieces)

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
        whole = [word for piece in pieces for word in _whole(piece)]
        pairs = [pair for piece in pieces for pair in _pairs(piece)]
        pair = max(pairs, key=lambda pair: len(pair[0]) + len(pair[1]), default=None)
        word = pair[0] if pair else max(whole, key=len, default=b"")
        parts = [part.encode() for piece in pieces for part in WORD.findall(piece)]
        fragment = b"" if word else max(parts, key=len, default=b"")
        pair = pair and (pair[0], pair[1][:LETTERS])
        return cls(tuple(pieces), foreign, pair, word, fragment, frozenset(whole), at_start, at_end, check)

    def starts(self, page: Page) -> list[int]:
        """Where in ``page.flat`` the first piece stands, the first and the last times, if the longest one does."""
        piece, flat, ahead, behind = self.pieces[0], page.flat, [], []
        if self.longest not in flat:
            return []
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


def _whole(piece: str) -> list[bytes]:
    """The words of a piece that stand whole in the log, in their order.

    Those at its edges may go on there: to the left where they begin with `_` or are all there is, to the right unless
    they are numbers.
    """
    words = [match.group().encode() for match in WORD.finditer(piece)]
    goes_on = piece[-1:].isalpha() or piece[-1:] == "_"
    first = piece[:1] == "_" or (len(words) == 1 and piece[:1].isalnum())
    return words[first : len(words) - goes_on]


def _pairs(piece: str) -> Iterator[tuple[bytes, bytes]]:
    """Neighbours of which the first is whole, and of the second at least the beginning is known."""
    words = [match.group().encode() for match in WORD.finditer(piece)]
    whole = _whole(piece)
    for first, second in pairwise(words):
        if first in whole and (second in whole or len(second) >= LETTERS):
            yield first, second


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
class Question:
    """What to ask where no problem is known, and the command that answers it."""

    clues: tuple[Pattern, ...]  # one of them must stand in the log; none for the last question
    run: str
    wording: Mapping[str, str]


@dataclass(frozen=True)
class Book:
    signatures: tuple[Signature, ...]
    consequences: Mapping[str, tuple[str, ...]]  # problem → those that follow from it
    harmless: tuple[Pattern, ...]  # lines that look like faults and are not
    questions: tuple[Question, ...]  # the nearest first
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
        clues = (clue for question in self.questions for clue in question.clues)
        return tuple(dict.fromkeys([*(s.pattern for s in self.signatures), *conditions, *self.harmless, *clues]))


@cache
def book() -> Book:
    """The signatures that ship with the package."""
    data = knowledge.signatures()
    signatures = [_signature(problem, row) for problem, rows in data["problems"].items() for row in rows]
    signatures += [signature for family in data["families"] for signature in _family(family)]
    codes = {code: v if isinstance(v, str) else Own(v["title"], v["remedy"]) for code, v in data["glmcore"].items()}
    signatures += [_code(code, meaning) for code, meaning in codes.items()]
    consequences = {cause: tuple(problems) for cause, problems in data["consequences"].items()}
    harmless = tuple(Pattern.parse(text) for text in data["harmless"])
    questions = tuple(
        Question(tuple(map(Pattern.parse, row["clues"])), row["run"], row["question"]) for row in data["questions"]
    )
    return Book(tuple(signatures), consequences, harmless, questions, codes)


def _signature(problem: str, row: Mapping[str, object]) -> Signature:
    def patterns(key: str) -> tuple[Pattern, ...]:
        return tuple(Pattern.parse(text) for text in row.get(key, ()))  # type: ignore[attr-defined]

    pattern = Pattern.parse(str(row["text"]), str(row.get("check", "")))
    return Signature(problem, float(str(row["weight"])), pattern, patterns("with"), patterns("without"))


def _family(family: Mapping[str, Any]) -> Iterator[Signature]:
    """One kind of trouble in every program's or language's words: an error code of CUDA's, a command that is absent."""
    for name, problem in family["problems"].items():
        for text in family["texts"]:
            yield Signature(problem, family["weight"], Pattern.parse(text.format(name)))


def _code(code: str, meaning: str | Own) -> Signature:
    problem = meaning if isinstance(meaning, str) else own_id(code)
    return Signature(problem, 0.99, Pattern.parse(f"glmcore: error[{code}]:"))


def own_id(code: str) -> str:
    return f"glmcore-{code}"
