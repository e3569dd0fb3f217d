"""Drafts of what comes next, from the text itself: where its last tokens stood before, and what followed there.

A draft is only a guess that the model checks: several of its tokens go through one step, and those count that the model
would have chosen. What is chosen, and its bits, are the same without drafts: they only save steps where they are right.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

# Tokens that must have stood together before; the longer ones are asked first.
GRAMS = (5, 3)
MOST = 15
# What a guess is worth before anything is known of an answer, and after that was given up; what a new one counts.
FIRST, NEW = 0.7, 0.5
# Tokens for which nothing is drafted where it did not pay; twice as many each time that it did not again.
PAUSE, LONGEST_PAUSE = 64, 1024
# By so much a step with drafts must be better than one without: what was measured is not exact.
MARGIN = 1.05


class Lookup:
    """The tokens of a prompt and its answer, and how the guesses about it went."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self.chance = FIRST  # that a token of a draft is right
        self.pause, self._next_pause = 0, PAUSE
        self._ends: dict[tuple[int, ...], int] = {}  # some tokens → the place behind where they stood last
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """The next token. What ends before it can be found from now on."""
        end = len(self.tokens)
        for size in GRAMS:
            if end >= size:
                self._ends[tuple(self.tokens[end - size :])] = end
        self.tokens.append(token)
        self.pause = max(0, self.pause - 1)

    def draft(self, most: int) -> list[int]:
        """Up to ``most`` tokens that may follow; none where the last ones are new."""
        for size in GRAMS:
            place = self._ends.get(tuple(self.tokens[-size:])) if len(self.tokens) > size else None
            if place is not None:
                found: list[int] = []
                for i in range(most):  # what repeats itself goes on with what was just drafted
                    at = place + i
                    found.append(self.tokens[at] if at < len(self.tokens) else found[at - len(self.tokens)])
                return found
        return []

    def note(self, right: int, drafted: int) -> None:
        """Of the last draft so many tokens were right."""
        rate = right / (right + (right < drafted))
        self.chance += NEW * (rate - self.chance)
        if right == drafted:
            self._next_pause = PAUSE

    def give_up(self) -> None:
        """Drafting does not pay here; it is tried again later."""
        self.pause, self.chance = self._next_pause, FIRST
        self._next_pause = min(2 * self._next_pause, LONGEST_PAUSE)


class StepCosts:
    """Seconds of a step by its rows, measured once; between two numbers of rows on the line between them."""

    def __init__(self, measured: Mapping[int, float]) -> None:
        self.rows = sorted(measured)
        self.seconds = [measured[rows] for rows in self.rows]

    def __call__(self, rows: int) -> float:
        after = bisect_left(self.rows, rows)
        if after == 0:
            return self.seconds[0]
        if after == len(self.rows):
            return self.seconds[-1] * rows / self.rows[-1]
        left, right = self.rows[after - 1], self.rows[after]
        share = (rows - left) / (right - left)
        return self.seconds[after - 1] * (1 - share) + self.seconds[after] * share


def worth(cost: StepCosts, rows: int, answers: int, chance: float, most: int) -> int:
    """How many tokens to draft for one answer, in a step of ``rows`` rows for ``answers``: as many as give most tokens
    for the time, of all answers together, and none where that is hardly more."""
    alone, best, count = answers / cost(rows) * MARGIN, 0.0, 0
    expected, power = float(answers), 1.0
    for drafted in range(1, most + 1):
        power *= chance
        expected += power
        rate = expected / cost(rows + drafted)
        if rate > max(best, alone):
            best, count = rate, drafted
    return count
