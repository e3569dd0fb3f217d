"""Connections that say nothing, or half of something, and readers that do not read: real sockets on loopback."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from glmcore.server import connections

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HALVES = (b"", HEAD, HEAD + b"Content-Length: 1000\r\n\r\n{")
DESCRIPTORS = 200


@contextmanager
def opened(server: Any, data: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        yield connection


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_who_only_holds_connections_keeps_nobody_out(process: Callable[..., Any], tiny: Callable[[str], Path]) -> None:
    server = process("--model", tiny("v2"), "--threads", "1", descriptors=DESCRIPTORS)
    used = cpu_s(server.process.pid)
    with ExitStack() as held:
        for number in range(3 * DESCRIPTORS):
            held.enter_context(opened(server, HALVES[number % len(HALVES)]))
        for _ in range(5):
            assert server.ask("GET", "/health")[0] == 200
            time.sleep(0.2)
        assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < DESCRIPTORS
        assert server.chat("hi", max_tokens=2)["choices"]
    assert cpu_s(server.process.pid) - used < 4 and server.log.read_text() == ""


def test_without_descriptors_it_neither_spins_nor_floods_the_log(
    process: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    """So few that the limit on connections cannot keep below them."""
    server = process("--model", tiny("v2"), "--threads", "1", descriptors=24)
    used = cpu_s(server.process.pid)
    with ExitStack() as held:
        for _ in range(100):
            held.enter_context(opened(server, b""))
        time.sleep(2)
    assert server.ask("GET", "/health")[0] == 200
    assert cpu_s(server.process.pid) - used < 2 and len(server.log.read_text()) < 1000


def test_what_strangers_send_is_logged_once(process: Callable[..., Any], tiny: Callable[[str], Path]) -> None:
    server = process("--model", tiny("v2"), "--threads", "1")
    for _ in range(50):
        with opened(server, b"nonsense\r\n\r\n") as connection:
            assert b" 400 " in connection.recv(1000)
    assert server.log.read_text().count("\n") == 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "BODY_S", "STALL_S"):
        monkeypatch.setattr(connections, name, 0.5)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("drip", [b"", b"x"])
def test_half_a_request_is_cut_off(v2: Any, hasty: None, half: bytes, drip: bytes) -> None:
    """Dripping does not help."""
    with opened(v2, half) as connection:
        assert ended(connection, drip), "the connection is still open"


def test_a_connection_that_was_answered_once_is_cut_off_too(v2: Any, hasty: None) -> None:
    with opened(v2, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
        assert b" 200 " in connection.recv(10_000)
        assert ended(connection, b"G")


def ended(connection: socket.socket, drip: bytes, seconds: float = 10) -> bool:
    """Whether the server ends the connection in that time, while ``drip`` is sent again and again."""
    connection.settimeout(0.1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            connection.sendall(drip)
            if connection.recv(10_000) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_who_waits_for_an_answer_is_not_cut_off(local: Callable[..., Any], endless: Path, hasty: None) -> None:
    server = local(endless)
    assert server.chat("hi", max_tokens=500)["usage"]["completion_tokens"] == 500
    assert server.engine.stats.decode_s > 0.5


def test_who_does_not_read_is_cut_off(v2: Any, hasty: None) -> None:
    count = 3000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", v2.port))
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)
        v2.until(lambda _: True)
        received = drained(connection, after=4)
    assert received.count(b"HTTP/1.1 200") < count


def drained(connection: socket.socket, after: float) -> bytes:
    time.sleep(after)
    received = bytearray()
    try:
        while data := connection.recv(2**20):
            received += data
    except OSError:
        pass
    return bytes(received)
