"""How many may wait, and how long whoever finds the line full has to."""

from __future__ import annotations

import random
from collections import deque

# Answers that may wait for the one that is being made: enough for 64 clients at once.
WAITING = 64
# Answers whose durations count.
REMEMBERED = 16
# Seconds. openai's clients obey Retry-After up to this; told more they give up, or try again at once (older ones).
LONGEST, SHORTEST = 60.0, 0.001


class Waits:
    """Measured durations, and the places in the line that were promised to those who were sent away.

    All who are sent away at once would come back at once if they were told the same: each is told its own time.
    """

    def __init__(self, parallel: int = 1) -> None:
        self.parallel = parallel  # answers that are made at once
        self.took: deque[float] = deque(maxlen=REMEMBERED)
        self.promised: list[float] = []

    def note(self, seconds: float) -> None:
        """An answer took that long."""
        self.took.append(seconds)

    def promise(self, now: float, waiting: int, running_s: float) -> float:
        """Seconds until an answer of mean length finds room: after the rest of that which has been under way for
        ``running_s`` and those that wait, and between those that were told to come back and have not.

        Where that is past LONGEST nothing can be promised, and a time up to it is drawn: who are told the same come
        back in a clump, of which the line takes few.
        """
        mean = sum(self.took) / len(self.took) if self.took else max(1.0, 2 * running_s)
        each = mean / self.parallel
        self.promised = sorted(due for due in self.promised if due > now)
        free = now + max(0.0, mean - running_s) + each * waiting
        for due in self.promised:
            if due - free >= each:
                break
            free = max(free, due) + each
        if free - now > LONGEST:
            return LONGEST * random.uniform(0.25, 1)  # noqa: S311 (no secret)
        self.promised.append(max(now + SHORTEST, free))
        return self.promised[-1] - now
