"""From a log or a traceback to known problems: offline, in one pass, with bounded memory.

Each page of the log is made plain, and signatures are compared where their words stand. What decides the
order is how surely a signature means its problem, then whether it stands in a line that raises, comes last, or is borne
out by another signature of the same problem.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from glmdoctor.explain.pages import Page, pages
from glmdoctor.explain.signatures import Book, Own, Pattern, Question, Signature, book, own_id
from glmdoctor.explain.wanted import Effort, Wanted

__all__ = ["Explanation", "Match", "Own", "Question", "book", "explain", "own_id"]

LEAST = 0.5  # confidence below which a match is no match
SURE = 0.8  # confidence from which a cause goes before its consequences
ENOUGH = 3  # pages in which a pattern is looked up; after that only where it comes last matters
TAIL = 4  # pages at the end that are searched for everything once more
KNOWN_LINES = 100_000  # different lines that are kept, to pass over pages that only repeat them
SHOWN_LINES = 8
RAISES = re.compile(r"[\w.]*(?:error|exception|interrupt|warning|fatal)\b|e\s{2,}\w", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    problem: str
    confidence: float
    lines: tuple[int, ...]  # numbers of the lines that tell, from 1
    words: str  # the line that tells most


@dataclass(frozen=True)
class Explanation:
    matches: tuple[Match, ...]  # best first
    harmless: tuple[int, ...]  # numbers of lines that look like faults and are not
    question: Question  # what would tell more, where nothing matches


@dataclass
class Sighting:
    """Where a pattern was seen."""

    lines: list[int] = field(default_factory=list)
    last: int = 0
    words: str = ""
    raises: bool = False
    pages: int = 0

    def add(self, line: int, words: str) -> None:
        if line not in self.lines and len(self.lines) < SHOWN_LINES:
            self.lines.append(line)
        if line >= self.last:
            self.last, self.words = line, words
        self.raises = self.raises or bool(RAISES.match(words))


def explain(stream: BinaryIO, known: Book | None = None) -> Explanation:
    """Which problems the log shows."""
    known = known or book()
    seen = _search(stream, known.patterns)
    best: dict[str, Match] = {}
    for problem, signatures in known.by_problem.items():
        match = _judge(problem, signatures, seen)
        if match is not None:
            best[problem] = match
    _put_causes_first(best, known)
    harmless = sorted({line for pattern in known.harmless if pattern in seen for line in seen[pattern].lines})
    ordered = sorted(best.values(), key=lambda match: (-match.confidence, -match.lines[-1]))
    return Explanation(tuple(ordered), tuple(harmless), _open_question(known, seen))


def _open_question(known: Book, seen: dict[Pattern, Sighting]) -> Question:
    """The first of which the log has a clue; the last needs none."""
    return next(q for q in known.questions if not q.clues or any(clue in seen for clue in q.clues))


def _put_causes_first(best: dict[str, Match], known: Book) -> None:
    """What follows from a problem that the log surely shows is less likely the one to mend."""
    for cause, consequences in known.consequences.items():
        if cause in best and best[cause].confidence >= SURE:
            below = round(best[cause].confidence - 0.01, 3)
            for problem in consequences:
                if problem in best and best[problem].confidence > below:
                    best[problem] = replace(best[problem], confidence=below)


def _search(stream: BinaryIO, patterns: tuple[Pattern, ...]) -> dict[Pattern, Sighting]:
    seen: dict[Pattern, Sighting] = {}
    wanted, effort = Wanted(patterns), Effort()
    tail: deque[Page] = deque(maxlen=TAIL)
    known: set[int] = set()  # hashes of lines
    for page in pages(stream):
        tail.append(page)
        if not _is_new(page, known):
            continue
        for pattern, starts in wanted.on(page, effort):
            if _look(page, pattern, starts, seen) >= ENOUGH:
                wanted.drop(pattern)
    once_more = Wanted(patterns if effort.spent else tuple(seen))
    for page in tail:
        for pattern, starts in once_more.on(page, Effort()):
            _look(page, pattern, starts, seen)
    return seen


def _is_new(page: Page, known: set[int]) -> bool:
    """Does the page hold a line that none before it held? Long logs mostly repeat themselves."""
    new = set(map(hash, page.data.split(b"\n"))) - known
    if len(known) < KNOWN_LINES:
        known |= new
    return bool(new)


def _look(page: Page, pattern: Pattern, starts: list[int], seen: dict[Pattern, Sighting]) -> int:
    """Note where the page shows the pattern; in how many pages it was seen by now."""
    first = next((start for start in starts if pattern.matches(page, start)), None)
    if first is None:
        return 0
    last = next(start for start in reversed(starts) if pattern.matches(page, start))
    sighting = seen.setdefault(pattern, Sighting())
    sighting.pages += 1
    for offset in sorted({first, last}):
        sighting.add(page.line_of(offset), page.words_at(offset))
    return sighting.pages


def _judge(problem: str, signatures: tuple[Signature, ...], seen: dict[Pattern, Sighting]) -> Match | None:
    """The problem's match, from all its signatures that the log shows."""
    found = [(s, seen[s.pattern]) for s in signatures if s.pattern in seen and _admitted(s, seen)]
    if not found:
        return None
    strongest, sighting = max(found, key=lambda pair: (pair[0].weight, pair[1].last))
    confidence = strongest.weight + 0.01 * sighting.raises + 0.005 * min(3, len(found) - 1)
    if confidence < LEAST:
        return None
    lines = sorted({line for _, s in found for line in s.lines})[:SHOWN_LINES]
    return Match(problem, round(min(confidence, 0.99), 3), tuple(lines), sighting.words)


def _admitted(signature: Signature, seen: dict[Pattern, Sighting]) -> bool:
    if any(pattern in seen for pattern in signature.not_with):
        return False
    return not signature.only_with or any(pattern in seen for pattern in signature.only_with)
