"""How many may wait, and how long whoever finds the line full has to."""

from __future__ import annotations

from collections import deque

# Answers that may wait for the one that is being made: enough for 64 clients at once.
WAITING = 64
# Answers whose durations count.
REMEMBERED = 16
# Seconds. Clients that obey Retry-After do so up to this (openai's), and take their chance at once where it is longer.
LONGEST, SHORTEST = 60.0, 0.001


class Waits:
    """Measured durations, and the places in the line that were promised to those who were sent away.

    All who are sent away at once would come back at once if they were told the same: each is told its own time.
    """

    def __init__(self) -> None:
        self.took: deque[float] = deque(maxlen=REMEMBERED)
        self.promised: list[float] = []

    def note(self, seconds: float) -> None:
        """An answer took that long."""
        self.took.append(seconds)

    def promise(self, now: float, waiting: int, running_s: float) -> float:
        """Seconds until all will be done that is before this one: the rest of the answer that has been under way
        for ``running_s``, those that wait, and those that were told to come back and have not."""
        mean = sum(self.took) / len(self.took) if self.took else max(1.0, running_s)
        self.promised = [due for due in self.promised if due > now]
        wait = max(0.0, mean - running_s) + mean * (waiting + len(self.promised))
        seconds = min(LONGEST, max(SHORTEST, wait))
        self.promised.append(now + seconds)
        return seconds
