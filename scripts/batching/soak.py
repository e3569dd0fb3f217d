"""A server that thousands of requests reach of which many are left, killed or read slowly."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil

QUESTIONS = ("hello ", "what is libcuda? ", "我没有gcc怎么办 ", "显存不够 ", "gcc ")
# What becomes of a request, and of how many of a hundred.
FATES = {"whole": 45, "slow": 20, "closed": 15, "reset": 15, "killed": 5}
KILLED = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); " + (
    "c.sendall(sys.stdin.buffer.read()); print(flush=True); c.recv(int(sys.argv[2])); c.recv(1 << 20)"
)
Body = dict[str, Any]


@contextmanager
def serving() -> Iterator[tuple[int, psutil.Process]]:
    """``glmcore serve`` with the demo model; its port and process."""
    command = [sys.executable, "-m", "glmcore", "serve", "--port", "0", "--quant", "int8", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            port = int(process.stdout.readline().partition(";")[0].rpartition(":")[2])
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def soak(requests: int, clients: int) -> None:
    """Print what became of them: wrong answers, rows that stayed taken, growth of memory in the second half."""
    bodies = [
        {"messages": [{"role": "user", "content": text * times}], "temperature": 0.7, "seed": seed, "max_tokens": 40}
        for seed, text in enumerate(QUESTIONS)
        for times in (1, 3, 20)
    ]
    with serving() as (port, process):
        expected = [asked(port, body) for body in bodies]
        count, memory, met = itertools.count(), [0], Counter()

        def client(number: int) -> bool:
            """Whether the answer, as far as it was heard, is the one given alone."""
            if next(count) == requests // 2:
                memory[0] = process.memory_info().rss
            dice = random.Random(number)
            [fate] = dice.choices(list(FATES), FATES.values())
            which = dice.randrange(len(bodies))
            met[fate] += 1
            return happened(fate, port, bodies[which], expected[which], dice)

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            wrong = sum(not right for right in pool.map(client, range(requests)))
        seconds = time.perf_counter() - started
        queue = at_rest(port)
        grown = process.memory_info().rss
        wrong += sum(asked(port, body) != answer for body, answer in zip(bodies, expected, strict=True))
        print(json.dumps({
            "part": "soak", "requests": requests, "seconds": round(seconds), **met, "wrong": wrong,
            "leaked": queue["running"] + queue["waiting"], "refused": queue["refused"],
            "rss_at_half_mib": memory[0] >> 20, "rss_at_end_mib": grown >> 20,
            "growth": round(grown / memory[0] - 1, 4),
        }))  # fmt: skip


def happened(fate: str, port: int, body: Body, expected: str, dice: random.Random) -> bool:
    if fate == "whole":
        return asked(port, body) == expected
    if fate == "slow":
        return read_slowly(port, {**body, "stream": True}, dice) == expected
    streamed = {**body, "stream": dice.random() < 0.7}
    if fate == "killed":
        kill_one(port, streamed, dice)
    else:
        leave(port, streamed, dice, reset=fate == "reset")
    return True


def connected(port: int, body: Body) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def asked(port: int, body: Body) -> str:
    connection = connected(port, body)
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply["choices"][0]["message"]["content"]


def read_slowly(port: int, body: Body, dice: random.Random) -> str:
    """The whole answer, a few bytes at a time."""
    connection = connected(port, body)
    response, events = connection.getresponse(), b""
    while some := response.read(dice.randrange(20, 400)):
        events += some
        time.sleep(dice.random() / 100)
    connection.close()
    chunks = [json.loads(line[6:]) for line in events.decode().splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def leave(port: int, body: Body, dice: random.Random, *, reset: bool) -> None:
    """Close at once or in the middle; with ``reset`` what had not been read is refused, as a killed machine's is."""
    connection = connected(port, body)
    if dice.random() < 0.7:
        response = connection.getresponse()
        for _ in range(dice.randrange(8)):
            response.read(30)
    if reset:
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def kill_one(port: int, body: Body, dice: random.Random) -> None:
    """A client process that ends by SIGKILL."""
    sent = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent
    command = [sys.executable, "-I", "-S", "-c", KILLED, str(port), str(dice.randrange(1, 400))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        client.stdin.write(request)
        client.stdin.close()
        client.stdout.readline()
        time.sleep(dice.random() / 20)
        client.kill()


def at_rest(port: int) -> dict[str, int]:
    """The queue when nothing is made any more, or after 30 s."""
    end = time.monotonic() + 30
    while (queue := get(port, "/stats")["queue"])["running"] + queue["waiting"] and time.monotonic() < end:
        time.sleep(0.1)
    return queue


def get(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    reply = json.loads(connection.getresponse().read())
    connection.close()
    return reply
