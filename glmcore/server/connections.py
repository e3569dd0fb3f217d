"""Connections that come to an end: who does not say what it wants, or does not take what it is given, is cut off."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds in which the head of a request must be there, counted from the connection or from the answer before; those in
# which its body must; those in which a client must begin the next request; those in which it must take what it is sent.
HEAD_S, BODY_S, IDLE_S, STALL_S = 20, 60, 10, 60
# Connections at once. Above it the one that has said nothing for longest makes room.
MOST, FEWEST = 1000, 8
# How many are taken in a turn of the event loop; descriptors that stay free for those of some turns and for the rest.
ACCEPTS, SPARE = 16, 100


def most_connections() -> int:
    """What the limit on descriptors leaves."""
    try:
        import resource
    except ImportError:  # Windows counts no descriptors
        return MOST
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MOST
    return max(FEWEST, min(MOST, allowed - len(os.listdir("/dev/fd")) - SPARE))


class Connection(H11Protocol):
    """uvicorn's waits without end for what a client leaves out; this has time limits, and a limit on their number."""

    def __init__(self, *, limit: int, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.limit = limit
        self.awaited: object = None  # what the client is to send: h11.IDLE (a head), h11.SEND_BODY, or nothing
        self.since = 0.0
        self.deadline: asyncio.TimerHandle | None = None
        self.stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.watch()
        if len(self.connections) > self.limit:
            self.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.deadline, self.stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stall is not None:
            self.stall.cancel()

    def watch(self) -> None:
        """A new deadline where the client's part has changed."""
        state = self.conn.their_state
        seconds = HEAD_S if state is h11.IDLE else BODY_S if state is h11.SEND_BODY else None
        awaited = None if seconds is None else state
        if awaited is self.awaited:
            return
        self.awaited, self.since = awaited, self.loop.time()
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def make_room(self) -> None:
        """Cut the connection that has kept us waiting longest; where none does, this is it: it has said nothing yet."""
        waiting = [other for other in self.connections if isinstance(other, Connection) and other.awaited]
        slowest = min(waiting, key=lambda other: other.since)
        self.connections.discard(slowest)
        slowest.transport.abort()
