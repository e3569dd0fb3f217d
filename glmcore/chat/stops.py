"""What ends an answer: stop tokens, which are dropped, and stop texts, which may span several pieces."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def drop_stop(ids: Sequence[int], stop_ids: Collection[int]) -> list[int]:
    """The ids without a last one that is a stop token; an answer cut by its budget keeps its last token."""
    return list(ids[:-1]) if ids and ids[-1] in stop_ids else list(ids)


class StopMatcher:
    """Lets text through until one of the stop texts appears, and holds back what may be the beginning of one.

    keeps: whether it lets the stop text itself through, too.
    """

    def __init__(self, stops: Sequence[str] = (), keeps: bool = False) -> None:
        self.keeps = keeps
        self.stops = tuple(stop for stop in ([stops] if isinstance(stops, str) else stops) if stop)
        self.found: str | None = None  # the stop text that has appeared
        self._held = ""

    @property
    def stopped(self) -> bool:
        return self.found is not None

    def push(self, text: str) -> str:
        """The text that is certain not to belong to a stop text."""
        if self.stopped:
            return ""
        self._held += text
        found = [(place, stop) for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if found:
            place, self.found = min(found)
            return self._let_go(place + len(self.found) * self.keeps, forget_rest=True)
        return self._let_go(len(self._held) - held_back(self._held, self.stops))

    def flush(self) -> str:
        """The rest, when the answer ended without a stop text."""
        return self._let_go(len(self._held))

    def _let_go(self, length: int, *, forget_rest: bool = False) -> str:
        text, self._held = self._held[:length], "" if forget_rest else self._held[length:]
        return text


def held_back(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of ``text`` that is the beginning of a marker."""
    return max((_begun(text, marker) for marker in markers), default=0)


def _begun(text: str, marker: str) -> int:
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
