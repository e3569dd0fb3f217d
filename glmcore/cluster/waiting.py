"""Waiting for what Ray is to bring, in threads that have to be gone before Ray is: it ends with a crash otherwise."""

from __future__ import annotations

import threading
import time
from typing import Any

# Seconds after which a thread looks whether anybody still wants what it waits for.
LOOK_S = 0.25

# As Ray's own connection: one for the process.
_over = threading.Event()


class Over(Exception):
    """The session ends; nobody wants it any more."""


def begin() -> None:
    """What is waited for from now on is wanted."""
    _over.clear()


def end() -> None:
    """Whoever waits raises ``Over`` soon."""
    _over.set()


def fetched(ref: Any, seconds: float = float("inf")) -> Any:
    """As ``ray.get``. Errors: Ray's, GetTimeoutError after so many ``seconds``; ``Over``."""
    import ray
    from ray.exceptions import GetTimeoutError

    last = time.monotonic() + seconds
    while not ray.wait([ref], timeout=max(0.0, min(LOOK_S, last - time.monotonic())))[0]:
        if _over.is_set():
            raise Over
        if time.monotonic() >= last:
            raise GetTimeoutError
    return ray.get(ref)
