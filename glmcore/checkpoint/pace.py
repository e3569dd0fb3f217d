"""How slow a server may be: an answer begins within a minute, and each minute brings something. Imports no torch."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

PATIENCE = 60.0  # seconds
WORTH = 1 << 16  # bytes that so many seconds have to bring; at this pace a model of 6 GB would take two months
BLOCK = 1 << 20

Made = TypeVar("Made")


def blocks(response: http.client.HTTPResponse, limit: int) -> Iterator[bytes]:
    """What comes, at most ``limit`` bytes, up to the end or the cut. Errors: TimeoutError where it comes too slowly."""
    left, began, window = limit, time.monotonic(), 0
    while left:
        try:
            block = response.read1(min(BLOCK, left))
        except (OSError, http.client.HTTPException):
            return
        if not block:
            return
        yield block
        left, window = left - len(block), window + len(block)
        if left and time.monotonic() - began > PATIENCE:
            if window < WORTH:
                raise TimeoutError(f"{window} bytes came in {PATIENCE:g} s")
            began, window = time.monotonic(), 0


def within(work: Callable[[], Made]) -> Made:
    """What ``work`` returns or raises; TimeoutError after ``PATIENCE``, and nobody waits for its thread any more.

    No timeout of a socket ends a name server that is silent, or headers that come a byte at a time.
    """
    done: Future[Made] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    try:
        return done.result(PATIENCE)
    except FutureTimeout:
        if done.done():  # one of the socket's own
            raise
        raise TimeoutError(f"no answer within {PATIENCE:g} s") from None
