"""Which replica gets a prompt, as plain integers: no clock, no thread, nothing of Ray's."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from glmcore.engine.sequence import common_prefix

# Prompts whose beginnings a replica is believed to hold still: its rows, and what its prefix cache usually keeps.
REMEMBERED = 64
# Answers that a replica may have above the one that has fewest: a beginning that all share does not draw all to one.
BALANCE = 2
# Fewer tokens are read again as fast as they are kept (``engine.batch.prefixes.LEAST``).
LEAST = 16

K = TypeVar("K", bound=Hashable)


@dataclass
class Route:
    """What is known of one replica: answers under way there, and what it has read, the last at the end."""

    parallel: int
    load: int = 0
    read: deque[tuple[int, ...]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def shared(self, prompt: Sequence[int]) -> int:
        """How many leading tokens of ``prompt`` it has read before; 0 where that is not worth the name."""
        most = max((common_prefix(tokens, prompt) for tokens in self.read), default=0)
        return most if most >= LEAST else 0


class Router(Generic[K]):
    """The replica with the longest shared beginning, then the one that has least to do, of those in balance."""

    def __init__(self) -> None:
        self.routes: dict[K, Route] = {}

    def add(self, name: K, parallel: int) -> None:
        self.routes[name] = Route(parallel)

    def remove(self, name: K) -> None:
        self.routes.pop(name, None)

    @property
    def parallel(self) -> int:
        """Answers that are made at once, of all replicas."""
        return sum(route.parallel for route in self.routes.values())

    def choose(self, prompt: Sequence[int]) -> K | None:
        """Whose the prompt is from now on; None where there is no replica."""
        if not self.routes:
            return None
        least = min(route.load for route in self.routes.values())
        fair = [name for name, route in self.routes.items() if route.load <= least + BALANCE]
        chosen = max(fair, key=lambda name: (self.routes[name].shared(prompt), -self.routes[name].load))
        self.routes[chosen].load += 1
        self.routes[chosen].read.append(tuple(prompt))
        return chosen

    def ended(self, name: K, tokens: Iterable[int] | None = None) -> None:
        """An answer there has ended; ``tokens``: its prompt with what followed, which the replica now holds."""
        route = self.routes.get(name)
        if route is None:
            return
        route.load -= 1
        if tokens is not None:
            route.read.append(tuple(tokens))
