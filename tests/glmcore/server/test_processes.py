"""``glmcore serve`` as users start it: who waits, who leaves, how it ends, and what it refuses to do."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from glmcore import demo

pytest.importorskip("fastapi")
CHAT = "/v1/chat/completions"
SECRET = "rhinoceros"
LONG = {"messages": [{"role": "user", "content": f"hello {SECRET}"}], "temperature": 0, "max_tokens": 30000}
SHORT = {**LONG, "max_tokens": 2}


@pytest.fixture(scope="module")
def server(process: Callable[..., Any], endless: Path) -> Any:
    """A model whose answers do not end by themselves, one at a time."""
    return process(
        "--model", endless, "--threads", "1", "--parallel", "1", "--queue", "16",
        "--allowed-host", "host.docker.internal",
    )  # fmt: skip


@pytest.fixture
def idle(server: Any) -> Any:
    server.until(lambda stats: stats["queue"]["running"] == stats["queue"]["waiting"] == 0)
    return server


def leave(connection: http.client.HTTPConnection) -> None:
    """As a client that is killed: the connection is shut in the middle of the answer."""
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def told_a_piece(connection: http.client.HTTPConnection) -> bool:
    """Waits until a word of the streamed answer is here."""
    response = connection.getresponse()
    return any(re.search(rb'"content": ?"[^"]', line) for line in iter(response.readline, b""))


def begun(server: Any, **settings: Any) -> http.client.HTTPConnection:
    """A long answer that is being made."""
    connection = server.connect("POST", CHAT, {**LONG, **settings})
    server.until(lambda stats: stats["queue"]["running"] == 1)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_answer(idle: Any, stream: bool) -> None:
    before = idle.stats()["answers"].get("cancelled", 0)
    connection = begun(idle, stream=stream)
    started = time.monotonic()
    assert idle.ask("GET", "/health")[0] == 200 and time.monotonic() - started < 1  # while the engine computes
    leave(connection)
    assert idle.ask("POST", CHAT, SHORT)[0] == 200
    assert time.monotonic() - started < 5  # the long answer would have taken half a minute
    assert idle.stats()["answers"]["cancelled"] == before + 1


def test_the_queue_is_fair_bounded_and_left_at_will(idle: Any) -> None:
    first = begun(idle, stream=True)
    waiting = []
    for place in range(16):
        waiting.append(idle.connect("POST", CHAT, {**LONG, "stream": place % 2 == 0}))
        idle.until(lambda stats, n=place: stats["queue"]["waiting"] == n + 1)
    status, body, headers = idle.ask("POST", CHAT, SHORT)
    assert (status, body["error"]["code"], body["error"]["type"]) == (503, "queue_full", "server_error")
    assert int(headers["retry-after"]) >= 1 and idle.stats()["queue"]["refused"] == 1
    for connection in waiting:
        leave(connection)
    idle.until(lambda stats: stats["queue"]["waiting"] == 0)
    later = []
    for place in range(3):
        later.append(idle.connect("POST", CHAT, {**LONG, "stream": True}))
        idle.until(lambda stats, n=place: stats["queue"]["waiting"] == n + 1)
    leave(first)
    for place, connection in enumerate(later):
        assert told_a_piece(connection), place  # an answer ends only when it is left: out of turn none would come
        assert idle.stats()["queue"]["waiting"] == 2 - place
        leave(connection)


def test_a_name_that_is_allowed_is_answered_and_others_are_told_how(idle: Any) -> None:
    for host in ("host.docker.internal", "HOST.docker.internal:8000", "localhost", "[::1]:80"):
        assert idle.ask("GET", "/health", Host=host)[0] == 200, host
    status, body, _ = idle.ask("GET", "/health", Host="host.lima.internal:8000")
    assert status == 403 and "--allowed-host host.lima.internal" in body["error"]["message"]


@pytest.mark.parametrize("count, queue, tokens", [(32, 8, 20), (64, 64, 5)])
def test_the_official_clients_own_retries_answer_everybody(
    process: Callable[..., Any], endless: Path, count: int, queue: int, tokens: int
) -> None:
    openai = pytest.importorskip("openai")
    server = process("--model", endless, "--threads", "1", "--queue", queue)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="-")
    messages = [{"role": "user", "content": "hello"}]

    def ask(_: int) -> int:
        reply = client.chat.completions.create(model="chatglm2-6b", messages=messages, temperature=0, max_tokens=tokens)
        return reply.usage.completion_tokens

    with ThreadPoolExecutor(count) as clients:
        assert list(clients.map(ask, range(count))) == [tokens] * count
    assert (server.stats()["queue"]["refused"] > 0) == (count > queue + 1)


def test_stats_and_metrics_say_the_same(idle: Any) -> None:
    idle.ask("POST", CHAT, {**LONG, "max_tokens": 5})
    # The client has its answer a moment before the queue has noted its end.
    stats = idle.until(lambda stats: stats["queue"]["running"] == 0)
    assert stats["model"]["name"] == "chatglm2-6b" and stats["model"]["generation"] == "v2"
    assert stats["backend"] == "torch 1 threads" and stats["placement"] == {"cpu": [0, 1]}
    last, totals = stats["last"], stats["totals"]
    assert last["generated_tokens"] == 5 and last["decode_steps"] == 4
    assert last["decode_tokens_per_s"] == pytest.approx(4 / last["decode_s"])
    assert totals["decode_tokens_per_s"] == pytest.approx(totals["decode_steps"] / totals["decode_s"])
    assert {"prefill_tokens_per_s", "decode_tokens_per_s", "time_to_first_token_s"} <= set(stats["definitions"])
    status, text, headers = idle.ask("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    metrics = dict(re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE))
    assert float(metrics["glmcore_generated_tokens_total"]) == totals["generated_tokens"]
    assert float(metrics['glmcore_answers_total{ending="length"}']) == stats["answers"]["length"]
    assert float(metrics["glmcore_queue_wait_seconds_count"]) == sum(stats["answers"].values())
    assert metrics["glmcore_running"] == "0.0"


def test_the_log_tells_no_prompts(idle: Any) -> None:
    idle.ask("POST", CHAT, {**SHORT, "temperature": -5})
    idle.ask("POST", CHAT, {"messages": [{"role": SECRET, "content": SECRET}]})
    leave(begun(idle))
    assert idle.log.read_text() == ""


def test_an_interrupt_ends_it_after_the_answers(process: Callable[..., Any], tmp_path: Path) -> None:
    """The demo model by a plan, as chat takes it; an answer that is being made still comes whole."""
    plan = tmp_path / "plan.json"
    command = [sys.executable, "-m", "glmcore", "plan", str(demo.folder()), "--device", "cpu=1GiB", "-o", str(plan)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    server = process("--plan", plan, "--threads", "1", "--precision", "fast")
    assert server.stats()["placement"] == {"cpu": [0, 1, 2, 3]}
    body = {"messages": [{"role": "user", "content": "what is libcuda?"}], "temperature": 0, "stream": True}
    whole = server.ask("POST", CHAT, body)[1]
    connection = server.connect("POST", CHAT, body)
    response = connection.getresponse()
    first = response.read(20)
    server.process.send_signal(signal.SIGINT)
    rest = first + response.read()
    assert texts(rest.decode("utf-8")) == texts(whole) and rest.endswith(b"data: [DONE]\n\n")
    assert server.process.wait(timeout=20) == 0
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/health")


def test_an_impatient_user_sees_no_traceback() -> None:
    command = [sys.executable, "-m", "glmcore", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while not (found := re.search(r"Serving on (\S+);", server.stdout.readline())):
            assert server.poll() is None
        urllib.request.urlopen(f"{found[1]}/health", timeout=20).close()
        for _ in range(3):
            server.send_signal(signal.SIGINT)
            time.sleep(0.02)
        _, errors = server.communicate(timeout=20)
    assert errors == ""
    assert server.returncode == 0


def texts(stream: str) -> str:
    data = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in data)


@pytest.mark.parametrize(
    "arguments, status, code",
    [
        (["--host", "0.0.0.0"], 2, "usage"),
        (["--host", "::"], 2, "usage"),
        (["--host", "192.0.2.1"], 2, "usage"),
        (["--host", "0.0.0.0", "--api-key", ""], 2, "usage"),
        (["--api-key", "schlüssel"], 2, "usage"),
        (["--port", "70000"], 2, "usage"),
        (["--queue", "-1"], 2, "usage"),
        (["--parallel", "0"], 2, "usage"),
        (["--parallel", "many"], 2, "usage"),
        (["--context", "1"], 2, "usage"),
        (["--max-stall", "0"], 2, "usage"),
        (["--allowed-host", "http://box:80"], 2, "usage"),
        (["--allowed-host", "*"], 2, "usage"),
        (["--port", "TAKEN"], 1, "address-unusable"),
        (["--host", "192.0.2.1", "--api-key", "k"], 1, "address-unusable"),
        (["--plan", "/nonexistent"], 1, "plan-invalid"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], status: int, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = refused([port if argument == "TAKEN" else argument for argument in ["--port", "0", *arguments]])
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(f"glmcore: error[{code}]: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')\n"
    (tmp_path / "fastapi.py").write_text(missing)
    done = refused(["--port", "0"], PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "error[packages-missing]: fastapi" in done.stderr
    assert f"{sys.executable} -m pip install" in done.stderr and "[serve]" in done.stderr


def refused(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmcore", "serve", *arguments],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_long_answer_is_cut_when_the_server_ends(idle: Any) -> None:
    """The last test of the module's server: clients hear of it, streaming or not."""
    stream = begun(idle, stream=True).getresponse()
    waits = idle.connect("POST", CHAT, SHORT)
    idle.until(lambda stats: stats["queue"]["waiting"] == 1)
    started = time.monotonic()
    idle.process.send_signal(signal.SIGTERM)
    *_, error, done, _ = stream.read().decode("utf-8").split("\n\n")
    assert json.loads(error[6:])["error"]["code"] == "given_up" and done == "data: [DONE]"
    assert waits.getresponse().status == 503
    assert idle.process.wait(timeout=30) == 0 and time.monotonic() - started < 15
    assert idle.log.read_text() == ""
