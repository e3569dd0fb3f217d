"""A damaged shard fetched again from a real server on the loopback: only when asked, resumed, verified, undoable."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glmdoctor.host.io import RealIO
from glmdoctor.repair import inputs

NAME, REVISION = "THUDM/chatglm2-6b", "0123456789abcdef0123456789abcdef01234567"
SHARD = "model-00001-of-00001.safetensors"
SIZE = 300_000


def shard(fill: bytes) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    return struct.pack("<Q", len(header)) + header + fill * SIZE


RIGHT = shard(b"\x01")


class Hub(ThreadingHTTPServer):
    """One repository with one shard; cuts, or stalls, a transfer where it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = RIGHT
        self.cut: list[int] = []  # bytes after which each next connection ends
        self.stall = threading.Event()  # set: the transfer goes on at once
        self.stall.set()
        self.starts: list[int] = []  # where each transfer began

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listing(self) -> bytes:
        lfs = {"sha256": hashlib.sha256(RIGHT).hexdigest(), "size": len(RIGHT)}
        entry = {"rfilename": SHARD, "size": len(RIGHT), "lfs": lfs}
        return json.dumps({"sha": REVISION, "siblings": [entry]}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server
        if self.path.startswith("/api/models/"):
            self.answer(200, hub.listing(), len(hub.listing()))
        elif self.path == f"/{NAME}/resolve/{REVISION}/{SHARD}":
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            hub.starts.append(start)
            rest = hub.content[start:]
            self.answer(206 if start else 200, rest[: hub.cut.pop(0)] if hub.cut else rest, len(rest))
        else:
            self.answer(404, b"", 0)

    def answer(self, status: int, body: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body[:100_000])
        self.wfile.flush()
        if len(body) > 100_000:
            self.server.stall.wait(60)
            self.wfile.write(body[100_000:])
        self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.stall.set()
    made.shutdown()
    made.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "chatglm2-6b"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "chatglm", "architectures": ["ChatGLMModel"]}')
    (folder / SHARD).write_bytes(RIGHT[:-1000])
    return folder


def environ(hub: Hub, model: Path) -> dict[str, str]:
    return {"GLMDOCTOR_ROOT": "/", "HOME": str(model.parent / "home"), "HF_ENDPOINT": hub.url, "NO_PROXY": "*"}


def asked(model: Path, *more: str) -> tuple[str, ...]:
    return ("fix", "--only", "truncated-checkpoint", "--model", str(model), "--yes", *more)


def test_it_is_fetched_where_it_was_named_and_given_back(root: Any, hub: Hub, model: Path) -> None:
    before, real = (model / SHARD).read_bytes(), environ(hub, model)
    plain = root.glmdoctor("fix", "--model", str(model), "--yes", "--dry-run", **real)
    assert "Fetch" not in plain.stdout and hub.starts == [], "never because everything was allowed"
    hub.cut = [50_000]
    done = root.glmdoctor(*asked(model, "--json"), **real)
    assert done.returncode == 0, done.stdout + done.stderr
    [plan] = json.loads(done.stdout)["plans"]
    assert (plan["id"], plan["outcome"]) == ("fetch-files", "repaired")
    assert (model / SHARD).read_bytes() == RIGHT and hub.starts == [0, 50_000], "it went on where it was cut"
    assert not list(model.glob(".glmdoctor-fetch"))
    undone = root.glmdoctor("undo", **real)
    assert undone.returncode == 0, undone.stderr
    assert (model / SHARD).read_bytes() == before
    assert sorted(os.listdir(model)) == sorted(["config.json", SHARD])


def test_what_arrives_damaged_is_not_taken(root: Any, hub: Hub, model: Path) -> None:
    before = (model / SHARD).read_bytes()
    hub.content = shard(b"\x02")
    done = root.glmdoctor(*asked(model), **environ(hub, model))
    assert done.returncode == 1 and "checksum" in done.stdout, done.stdout + done.stderr
    assert (model / SHARD).read_bytes() == before


def test_another_revision_than_the_one_recorded_here_is_refused(root: Any, hub: Hub, model: Path) -> None:
    record = model / ".cache" / "huggingface" / "download" / f"{SHARD}.metadata"
    record.parent.mkdir(parents=True)
    record.write_text(f"{'c' * 40}\n{'d' * 64}\n1.0\n")
    done = root.glmdoctor(*asked(model), **environ(hub, model))
    assert done.returncode == 1 and "another revision" in done.stdout, done.stdout + done.stderr
    assert (model / SHARD).read_bytes() == RIGHT[:-1000]


def test_a_transfer_that_is_killed_goes_on_the_next_time(root: Any, hub: Hub, model: Path) -> None:
    """The doctor and its download die in the midst; the next repair recovers, and fetches the rest alone."""
    before, real = (model / SHARD).read_bytes(), environ(hub, model)
    hub.stall.clear()
    variables = {**os.environ, **real, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "glmdoctor", *asked(model)]
    process = subprocess.Popen(command, env=variables, start_new_session=True, stdin=subprocess.DEVNULL)
    wait_for(lambda: any(part.stat().st_size >= 100_000 for part in model.glob(".glmdoctor-fetch/*.part")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    hub.stall.set()
    assert (model / SHARD).read_bytes() == before
    done = root.glmdoctor(*asked(model), **real)
    assert done.returncode == 0 and "rolled back" in done.stderr, done.stdout + done.stderr
    assert (model / SHARD).read_bytes() == RIGHT and hub.starts[-1] >= 100_000


def wait_for(happened: Any) -> None:
    end = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < end, "it never came that far"
        time.sleep(0.02)


def test_the_plan_can_be_read_as_a_script(root: Any, hub: Hub, model: Path) -> None:
    done = root.glmdoctor(*asked(model)[:-1], "--script", "-", **environ(hub, model))
    assert f"glmcore download {NAME.split('/')[1]}" in done.stdout and "mv -f -T" in done.stdout
    assert hub.starts == []


def test_what_is_recorded_of_a_file(tmp_path: Path) -> None:
    """A pointer's own oid; the name of the hub cache's blob, which is then what is replaced."""
    blobs, snapshot = tmp_path / "m" / "blobs", tmp_path / "m" / "snapshots" / "r"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / ("e" * 64)).write_bytes(b"x")
    (snapshot / "a.bin").symlink_to(f"../../blobs/{'e' * 64}")
    (snapshot / "b.bin").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'f' * 64}\nsize 9\n")
    blob, pointer, gone = inputs.wanted(RealIO(), str(snapshot), ["a.bin", "b.bin", "c.bin"])
    assert (blob.sha256, blob.path) == ("e" * 64, str((blobs / ("e" * 64)).resolve()))
    assert pointer.sha256 == "f" * 64 and (gone.sha256, gone.path) == (None, str((snapshot / "c.bin").resolve()))
