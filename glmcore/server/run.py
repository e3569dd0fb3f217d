"""A server that runs until it is told to end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import uvicorn

from glmcore.server.address import url_of
from glmcore.server.answers import GRACE_S
from glmcore.server.app import create_app

if TYPE_CHECKING:
    from glmcore.engine.engine import Engine


def serve(engine: Engine, bound: socket.socket, api_key: str | None, *, debug: bool) -> None:
    """Answer until SIGINT or SIGTERM; what is being answered then has GRACE_S seconds to come to its end."""
    app = create_app(engine, api_key)
    write_logs(debug)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_S + 1
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)  # uvicorn takes them over while it runs, and hands them on at its end
    bound.listen()
    print(f"{engine.describe()}\nServing on {url_of(bound)}; Ctrl-C ends it.", flush=True)
    try:
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        if not app.state.line.idle_within(GRACE_S):
            sys.stdout.flush()
            os._exit(0)  # a long prefill cannot be interrupted, and the interpreter would wait for its thread


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
