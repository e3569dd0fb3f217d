"""Which patterns a page may hold, and how much may be spent on looking for them.

A page that programs wrote has the words of few signatures. One made of the words of all of them is searched as long as
there is effort left, so that no log takes longer than its length allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from glmdoctor.explain.pages import Page
from glmdoctor.explain.signatures import Pattern

# What is spent, in some microseconds of one core: to compare a pattern in one place costs 1.
SEARCH = 20  # looking through a page for one pattern
CROWD = 5000  # telling which of many likely patterns a page may hold
FEW = 64  # likely patterns up to which each is searched for at once; of more, the pairs of words are compared first
MOST = 400_000  # effort at the beginning, and at most
REFILL = 700  # that each page brings

STEM = 4  # letters that several fragments share


class Effort:
    """What may be spent on a log. Only pages with the words of a great many signatures use it up."""

    def __init__(self) -> None:
        self.left = MOST
        self.spent = False  # was a page left unsearched?

    def refill(self) -> None:
        self.left = min(MOST, self.left + REFILL)

    def allows(self, cost: int) -> bool:
        allowed = cost <= self.left
        self.spent = self.spent or not allowed
        return allowed


class Wanted:
    """The patterns still looked for, by their words, so that a page asks only for what it has."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self._by_word: dict[bytes, list[Pattern]] = {}
        self._by_fragment: dict[bytes, list[Pattern]] = {}
        self._wordless: list[Pattern] = []  # without any ASCII word
        for pattern in patterns:
            self._group(pattern).append(pattern)
        self._by_stem = _by_stem(self._by_fragment)

    def _group(self, pattern: Pattern) -> list[Pattern]:
        if pattern.word:
            return self._by_word.setdefault(pattern.word, [])
        return self._by_fragment.setdefault(pattern.fragment, []) if pattern.fragment else self._wordless

    def on(self, page: Page, effort: Effort) -> Iterator[tuple[Pattern, list[int]]]:
        """Those of which the page may hold a match, and where."""
        effort.refill()
        for pattern in self._likely(page, effort):
            if not effort.allows(SEARCH):
                return
            starts = pattern.starts(page)
            effort.left -= SEARCH + len(starts)
            if starts:
                yield pattern, starts

    def _likely(self, page: Page, effort: Effort) -> list[Pattern]:
        distinct = page.distinct
        words = self._by_word.keys() & distinct
        if not effort.allows(SEARCH * len(words)):
            return []
        likely = [p for word in words for p in self._by_word[word] if p.needed <= distinct]
        if len(likely) > FEW:
            effort.left -= CROWD
            pairs = page.pairs
            likely = [p for p in likely if p.pair is None or p.pair in pairs]
        likely += [p for part in self._fragments(page) for p in self._by_fragment[part] if p.needed <= distinct]
        likely += self._wordless
        return [p for p in likely if p.is_ascii] if page.flat.isascii() else likely

    def _fragments(self, page: Page) -> Iterator[bytes]:
        words = page.vocabulary
        for stem, fragments in self._by_stem.items():
            if stem in words:
                yield from (part for part in fragments if part in words)

    def drop(self, pattern: Pattern) -> None:
        self._group(pattern).remove(pattern)


def _by_stem(fragments: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """The fragments by the stretch of letters that they share with the most others: absent, it settles them all."""
    stems = {part: {part[i : i + STEM] for i in range(max(1, len(part) - STEM + 1))} for part in fragments}
    common = Counter(stem for those in stems.values() for stem in those)
    groups: dict[bytes, list[bytes]] = {}
    for part, those in stems.items():
        groups.setdefault(max(sorted(those), key=common.__getitem__), []).append(part)
    return groups
