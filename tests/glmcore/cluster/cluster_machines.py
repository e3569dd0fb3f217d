"""Real clusters on loopback: Ray's own processes, ``glmcore cluster serve`` as users start it, and a client."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent


@dataclass
class Rays:
    """Ray's processes; ``variables`` let others of the same user join."""

    process: subprocess.Popen[str]
    address: str
    variables: dict[str, str]

    def order(self, *order: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def add(self, **variables: str) -> str:
        return self.order("add", variables)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, timeout=100,
            env={**os.environ, **self.variables}, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def rays() -> Iterator[Rays]:
    command = [sys.executable, str(HERE / "raylets.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            begun = json.loads(process.stdout.readline())
            yield Rays(process, begun["address"], begun["variables"])
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass
class Served:
    """A server that runs, and requests to it."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
        connection.close()
        return response.status, said, response.headers

    def chat(self, text: str, **settings: Any) -> tuple[int, dict[str, Any], Any]:
        asked = {"messages": [{"role": "user", "content": text}], "temperature": 0, **settings}
        status, said, headers = self.ask("POST", "/v1/chat/completions", asked)
        return status, json.loads(said) if not settings.get("stream") else said.decode(), headers

    def cluster(self) -> dict[str, Any]:
        return json.loads(self.ask("GET", "/stats")[1])["cluster"]

    def until(self, fact: Callable[[dict[str, Any]], Any], seconds: float = 30) -> dict[str, Any]:
        """What /stats says of the cluster, as soon as ``fact`` is true of it."""
        end = time.monotonic() + seconds
        while not fact(said := self.cluster()):
            assert time.monotonic() < end, (said, self.log.read_text())
            time.sleep(0.05)
        return said


@contextmanager
def served(rays: Rays, folder: Path, *arguments: object) -> Iterator[Served]:
    log = folder / "stderr.txt"
    command = [sys.executable, "-m", "glmcore", "cluster", "serve", "--address", rays.address, "--port", "0"]
    with (
        log.open("w") as complaints,
        subprocess.Popen(
            [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=complaints, text=True,
            env={**os.environ, **rays.variables}, cwd=folder,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            process.stdout.readline()
            address = process.stdout.readline()
            assert "Serving on http://127.0.0.1:" in address, log.read_text()
            yield Served(process, int(address.partition(";")[0].rpartition(":")[2]), log)
        finally:
            process.terminate()
            process.wait(timeout=30)


def processes(rays: Rays, name: str) -> list[psutil.Process]:
    """Ray's workers of that name beneath our own."""
    below = psutil.Process(rays.process.pid).children(recursive=True)
    return [each for each in below if name in " ".join(each.cmdline())]
