"""How many guessed tokens a step should take: as many as give most tokens for the time, by what steps cost."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import mul

# By so much a step with drafts must be better than one without: what was measured is not exact.
MARGIN = 1.05
# What a step tells of the pace of all, and of those with as many rows; at most by so much (a logarithm): another
# program may stop one for a while.
PACE, NEW, MOST_NEW = 0.3, 0.1, 0.3


class StepCosts:
    """Seconds of a step by its rows; between two numbers of rows on the line between them.

    measured: of some numbers of rows, each the least of a few. What steps take later mends it.
    """

    def __init__(self, measured: Mapping[int, float]) -> None:
        self.rows = sorted(measured)
        self.seconds = [measured[rows] for rows in self.rows]
        self._pace = 0.0  # the logarithm of what steps take of late over what is known

    def __call__(self, rows: int) -> float:
        left, right, share = self._between(rows)
        if rows > self.rows[-1]:
            return self.seconds[-1] * rows / self.rows[-1]
        return self.seconds[left] * (1 - share) + self.seconds[right] * share

    def note(self, rows: int, seconds: float) -> None:
        """What a step took. What makes all slower alike says nothing of rows; what is left of the difference counts."""
        off = math.log(seconds / self(rows))
        self._pace += PACE * (off - self._pace)
        new = NEW * max(-MOST_NEW, min(MOST_NEW, off - self._pace))
        left, right, share = self._between(rows)
        self.seconds[left] *= math.exp(new * (1 - share))
        self.seconds[right] *= math.exp(new * share)

    def _between(self, rows: int) -> tuple[int, int, float]:
        """The places of the next smaller and larger number that is known, and how far it is from the smaller one."""
        right = min(bisect_left(self.rows, rows), len(self.rows) - 1)
        left = max(0, right - 1) if self.rows[right] > rows else right
        width = self.rows[right] - self.rows[left]
        return left, right, (rows - self.rows[left]) / width if width else 0.0


def worth(cost: StepCosts, guesses: Sequence[Sequence[float]], most: int) -> list[int]:
    """How many tokens of each answer's guess to draft, ``most`` of all: the likeliest first, as many as give most
    tokens for the time, and none where that is hardly more.

    guesses: of each answer, how likely each token is right if those before it are.
    """
    likely = sorted(
        ((chance, -number) for number, chances in enumerate(guesses) for chance in accumulate(chances, mul)),
        reverse=True,
    )
    expected, count = float(len(guesses)), 0
    best = expected / cost(len(guesses)) * MARGIN
    for tried, (chance, _) in enumerate(likely[: max(0, most)], start=1):
        expected += chance
        if (rate := expected / cost(len(guesses) + tried)) > best:
            best, count = rate, tried
    counts = [0] * len(guesses)
    for _, number in likely[:count]:
        counts[-number] += 1
    return counts
