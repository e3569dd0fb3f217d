"""A server that runs until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from functools import partial
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI

from glmcore.server.address import url_of
from glmcore.server.connections import ACCEPTS, IDLE_S, Connection, most_connections
from glmcore.server.line import Line
from glmcore.server.streams import CUT_S

# Seconds that answers have to come to their end once the server is told to end.
GRACE_S = 5


# Connections that the system keeps for us until we take them.
BACKLOG = 1024
# Seconds within which the same line is logged once: others can cause it as often as they like.
QUIET_S = 60


def serve(app: FastAPI, bound: socket.socket, description: str, *, debug: bool) -> None:
    """Answer until SIGINT or SIGTERM."""
    write_logs(debug)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)  # uvicorn takes them over while it runs, and hands them on at its end
    bound.listen()
    print(f"{description}\nServing on {url_of(bound)}; Ctrl-C ends it.", flush=True)
    try:
        Server(configuration(app), app.state.line).run(sockets=[bound])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        app.state.line.close()
        if not app.state.line.idle_within(seconds=2):
            print(end="", flush=True)
            os._exit(0)  # a long prefill cannot be interrupted, and the interpreter would wait for its thread


def configuration(app: FastAPI) -> uvicorn.Config:
    """uvicorn's settings. The app is ended by ``serve``: uvicorn would show a traceback of it at a second Ctrl-C."""
    return uvicorn.Config(
        app, http=partial(Connection, limit=most_connections()), ws="none", lifespan="off", backlog=ACCEPTS,
        timeout_keep_alive=IDLE_S, timeout_graceful_shutdown=CUT_S, log_config=None, access_log=False,
        server_header=False,
    )  # fmt: skip


class Server(uvicorn.Server):
    """Once it is told to end, answers have GRACE_S seconds to do so; then they are given up, and their clients told."""

    def __init__(self, config: uvicorn.Config, line: Line) -> None:
        super().__init__(config)
        self.line = line

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)  # asyncio would also accept that many at once, and log each that fails

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_S, self.line.close)
        await super().shutdown(sockets)


def leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def write_logs(debug: bool) -> None:
    """Warnings and errors to standard error, a line each; tracebacks only with --debug."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(debug))
    handler.addFilter(Seldom())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class Seldom(logging.Filter):
    """The libraries' own lines, which tell of connections, at most once within QUIET_S each."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "glmcore":
            return True
        what = f"{record.name} {record.getMessage()}".partition("\n")[0]
        if record.created - self.said.get(what, 0.0) < QUIET_S:
            return False
        if len(self.said) > 1000:
            self.said.clear()
        self.said[what] = record.created
        return True


class OneLine(logging.Formatter):
    def __init__(self, debug: bool) -> None:
        super().__init__("glmcore: %(levelname)s: %(message)s")
        self.debug = debug

    def formatException(self, ei: Any) -> str:
        return super().formatException(ei) if self.debug else ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip("\n")
