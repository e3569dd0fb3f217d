"""The order in which tokens that see each other both ways go through the layers, some at a time.

Of each layer all tokens' keys and values have to be stored before any token looks at them. So a layer is two sweeps
over the tokens, and between any two tokens of a sweep the rest can wait: the bits are those of all at once.
"""

from __future__ import annotations

from typing import NamedTuple

from glmcore.kernels import abi

# What a token costs in each of the sweeps: the first one's matrix is a quarter of all that a layer of ChatGLM-6B has.
COSTS = {abi.STORING: 4, abi.SEEING: 12}
# Keys that cost as much as 1 of these to look at: with 2,000 the second sweep takes 4.4 times as long as the first (one
# thread of a Zen 4).
KEYS = 350
# Tokens of a stretch. More share no more of the work (CHUNK in cpu/glm.h), and fewer take nearly as long as the least:
# weights are unpacked for all of them.
MOST, LEAST = 128, 32


class Stretch(NamedTuple):
    """A part of a sweep: half a layer, ``abi.STORING`` or ``abi.SEEING``, of tokens ``first`` to before ``last``."""

    layer: int
    half: int
    first: int
    last: int


class Course:
    """How far ``count`` tokens are on their way through ``layers`` layers, by the work that it takes."""

    def __init__(self, count: int, layers: int) -> None:
        self.count, self.done = count, 0
        self.costs = {**COSTS, abi.SEEING: COSTS[abi.SEEING] + count // KEYS}
        self.layer = sum(self.costs.values())  # of a token
        self.token = layers * self.layer

    @property
    def left(self) -> int:
        """What is left, as tokens of which each has all layers before it."""
        return -(-(self.count * self.token - self.done) // self.token)

    def go_on(self, tokens: int) -> list[Stretch]:
        """What is done next: for so many tokens less to be ``left``, or as few more as can be."""
        until, found = (self.count - self.left + tokens) * self.token, []
        while self.done < min(until, self.count * self.token):
            found.append(self._next(until - self.done))
            self.done += (found[-1].last - found[-1].first) * self.costs[found[-1].half]
        return found

    def _next(self, work: int) -> Stretch:
        """What is nearest to so much work; where more is wanted a sweep's rest is cut evenly."""
        layer, within = divmod(self.done, self.count * self.layer)
        storing = self.count * self.costs[abi.STORING]
        half = abi.STORING if within < storing else abi.SEEING
        first = (within - storing * (half == abi.SEEING)) // self.costs[half]
        rest = self.count - first
        size = min(-(-rest // -(-rest // MOST)), max(LEAST, -(-work // self.costs[half])))
        return Stretch(layer, half, first, first + size)
