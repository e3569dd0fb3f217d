"""What steps and prompts cost here, learnt while they run, and how much of a prompt may be read beside answers."""

from __future__ import annotations

# A pass over fewer tokens would take nearly as long: it reads the same weights. (Four tokens at 8 bits cost 1.25 steps
# of one and sixteen 3.4: pieces of 16 would stall a 6B model's answers for 0.4 s on two cores.)
LEAST = 4
MOST = 512
# A prompt of so few unread tokens is read whole beside answers: who asks would wait a step longer for every cut.
SHORT = 32
# Of a new measurement, in the mean; the rest is that of those before.
NEW = 0.5


class Costs:
    """Seconds of a step by its rows, and those that each token of a prompt adds to it.

    least: tokens of a piece at least. With ``LEAST`` a prompt read by itself goes on however slow the steps are; of one
    that is read in the steps of others a single token is as well read.
    """

    def __init__(self, least: int = LEAST) -> None:
        self.least = least
        self.steps: dict[int, float] = {}
        self.token: float | None = None
        self.observed: float | None = None  # a token of which more is wanted than its keys and values
        self._last = least  # tokens of the piece that was seen last

    def note_step(self, rows: int, seconds: float) -> None:
        self.steps[rows] = _mean(self.steps.get(rows), seconds)

    def note_reading(self, tokens: int, seconds: float, observed: bool = False) -> None:
        """Of a pass by itself."""
        self._last = tokens
        if observed:
            self.observed = _mean(self.observed, seconds / tokens)
        else:
            self.token = _mean(self.token, seconds / tokens)

    def note_both(self, rows: int, tokens: int, seconds: float) -> None:
        """Of a pass that was a step of so many rows too."""
        self.note_reading(tokens, max(0.0, seconds - self.step(rows)))

    def step(self, rows: int) -> float:
        """Seconds of a step of so many rows; of a number that was not seen yet, as the next larger or largest."""
        if not self.steps:
            return 0.0
        larger = [count for count in self.steps if count >= rows]
        return self.steps[min(larger) if larger else max(self.steps)]

    def tokens_beside(self, rows: int, seconds: float, observed: bool = False) -> int:
        """Tokens of prompts that may be read before a step of ``rows``, or in it, for both to take ``seconds`` at most.

        At most twice as many as the last time: how much a larger piece takes is known once a smaller one was read.
        """
        token, least = (self.observed, LEAST) if observed else (self.token, self.least)
        if token is None:
            return least
        most = min(MOST, 2 * self._last)
        left = seconds - self.step(rows)
        return max(least, min(most, int(left / token) if token else most))


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + NEW * (new - old)
