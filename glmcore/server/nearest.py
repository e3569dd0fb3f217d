"""The route that a wrong path probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

# What other servers call it.
MEANT = {
    "completion": "completions", "props": "stats", "slots": "stats", "healthz": "health", "ping": "health",
    "ready": "health",
}  # fmt: skip


def nearest(path: str, paths: Iterable[str]) -> str:
    """The one of ``paths`` with most words of ``path`` and fewest others, and of those the one spelled most like it."""
    words = _words(path)

    def likeness(known: str) -> tuple[int, int, float]:
        shared, others = words & _words(known), _words(known) - words
        return len(shared), -len(others), SequenceMatcher(None, path[:100], known).ratio()

    return max(paths, key=likeness)


def _words(path: str) -> set[str]:
    words = re.findall("[a-z]+", path[:100].lower())
    return {MEANT.get(word, word) for word in words}
