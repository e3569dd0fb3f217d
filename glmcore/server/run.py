"""A server that runs until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from glmcore.server.address import url_of
from glmcore.server.answers import CUT_S
from glmcore.server.app import create_app
from glmcore.server.line import Line

if TYPE_CHECKING:
    from glmcore.engine.engine import Engine

# Seconds that answers have to come to their end once the server is told to end.
GRACE_S = 5


def serve(engine: Engine, bound: socket.socket, api_key: str | None, *, debug: bool) -> None:
    """Answer until SIGINT or SIGTERM."""
    app = create_app(engine, api_key)
    write_logs(debug)
    config = uvicorn.Config(
        # The end of the app is below: uvicorn would show a traceback of it at a second Ctrl-C.
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=CUT_S, lifespan="off"
    )  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)  # uvicorn takes them over while it runs, and hands them on at its end
    bound.listen()
    print(f"{engine.describe()}\nServing on {url_of(bound)}; Ctrl-C ends it.", flush=True)
    try:
        Server(config, app.state.line).run(sockets=[bound])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        app.state.line.close()
        if not app.state.line.idle_within(seconds=2):
            sys.stdout.flush()
            os._exit(0)  # a long prefill cannot be interrupted, and the interpreter would wait for its thread


class Server(uvicorn.Server):
    """Once it is told to end, answers have GRACE_S seconds to do so; then they are given up, and their clients told."""

    def __init__(self, config: uvicorn.Config, line: Line) -> None:
        super().__init__(config)
        self.line = line

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_S, self.line.close)
        await super().shutdown(sockets)


def leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def write_logs(debug: bool) -> None:
    """Warnings and errors to standard error, a line each; tracebacks only with --debug."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(debug))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class OneLine(logging.Formatter):
    def __init__(self, debug: bool) -> None:
        super().__init__("glmcore: %(levelname)s: %(message)s")
        self.debug = debug

    def formatException(self, ei: Any) -> str:
        return super().formatException(ei) if self.debug else ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip("\n")
