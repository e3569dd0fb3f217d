"""Who is served next, as plain integers: no tensors, no clock, no thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar


@dataclass(eq=False)
class Place:
    """What the scheduler knows of an answer: the tokens of its prompt, and of both at most."""

    prompt_tokens: int
    most_tokens: int
    left: int = field(init=False)  # tokens of the prompt that are still to be read
    taken: int = field(init=False, default=0)  # tokens that were read for it: what it has had of the others' time
    follows: tuple[Place, int] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.left = self.prompt_tokens

    def follow(self, other: Place, tokens: int) -> None:
        """Let it wait until ``other``'s prompt, which begins with the same ``tokens``, has been read that far."""
        self.follows = (other, tokens)

    def waits_for(self, other: Place) -> bool:
        return self.follows is not None and self.follows[0] is other


P = TypeVar("P", bound=Place)


class Scheduler(Generic[P]):
    """Answers wait in the order in which they were asked for, are read, and then answered together.

    parallel: how many are read and answered at once. fits(rows, tokens): whether there is memory for so many rows of so
    many tokens. An answer always fits alone.
    """

    def __init__(self, parallel: int, fits: Callable[[int, int], bool] = lambda rows, tokens: True) -> None:
        self.parallel, self.fits = parallel, fits
        self.waiting: deque[P] = deque()
        self.reading: list[P] = []
        self.answering: list[P] = []
        self._oldest = False

    @property
    def under_way(self) -> list[P]:
        return self.reading + self.answering

    def __bool__(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.waiting or self.reading or self.answering)

    def add(self, place: P) -> None:
        self.waiting.append(place)

    def admit(self) -> P | None:
        """Who begins now. Nobody overtakes: whoever needs much memory is not passed over for ever."""
        if not self.waiting or len(self.under_way) >= self.parallel:
            return None
        longest = max(place.most_tokens for place in (self.waiting[0], *self.under_way))
        if self.under_way and not self.fits(len(self.under_way) + 1, longest):
            return None
        place = self.waiting.popleft()
        self.reading.append(place)
        return place

    def reader(self) -> P | None:
        """Whose prompt is read on, for one piece.

        In turn it is the one that has waited longest, which so gets half of all pieces at least, and the one that has
        had least: a short prompt is not kept waiting by a long one, nor a long one by many short ones.
        """
        ready = [place for place in self.reading if not self._behind(place)]
        if not ready:
            return None
        self._oldest = not self._oldest
        return ready[0] if self._oldest and len(ready) > 1 else min(ready, key=lambda place: place.taken)

    def _behind(self, place: P) -> bool:
        """Whether another's reading will bring it further than its own: its prompt begins as that one's does."""
        if place.follows is None:
            return False
        other, tokens = place.follows
        if other in self.reading and other.prompt_tokens - other.left < tokens:
            return True
        place.follows = None
        return False

    def read(self, place: P, left: int) -> None:
        """A piece of its prompt was read, and ``left`` tokens are still to be."""
        place.taken += place.left - left
        place.left = left
        if not left:
            self.reading.remove(place)
            self.answering.append(place)

    def remove(self, place: P) -> None:
        """It has ended, wherever it was."""
        groups: tuple[deque[P] | list[P], ...] = (self.waiting, self.reading, self.answering)
        for group in groups:
            if place in group:
                group.remove(place)
