"""Downloads from a real server on the loopback that behaves like the hub, and misbehaves."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from golden_cases import GOLDEN

from glmcore.checkpoint import download as module
from glmcore.checkpoint import open_checkpoint, pace
from glmcore.checkpoint.download import RemoteFile, choose, download
from glmcore.checkpoint.lock import LOCK
from glmcore.errors import GlmError

REVISION = "0123456789abcdef0123456789abcdef01234567"
NAME = "THUDM/chatglm2-6b"


class Hub(ThreadingHTTPServer):
    """Serves one repository as the hub does: a listing, and files by redirection to another place."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        source = GOLDEN / "v2" / "sharded"
        self.files = {path.name: path.read_bytes() for path in source.iterdir() if path.name != "golden.safetensors"}
        self.files |= {"modeling_chatglm.py": b"raise SystemExit", "README.md": b"hello", "../evil.model": b"x"}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.cut: Callable[[int], int] | None = None  # of a file's bytes, how many a connection brings
        self.cut_after: int | None = None  # bytes that a connection brings before it is cut
        self.ranges = True
        self.replaced: dict[str, bytes] = {}  # what is sent in place of a file
        self.statuses: list[int] = []  # answers before the right ones
        self.page = False
        self.drips = ""  # the beginning of a path; what is asked for there comes a byte at a time, without end
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listing(self) -> bytes:
        siblings = []
        for name, data in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith((".safetensors", ".model")):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        return json.dumps({"sha": REVISION, "siblings": siblings}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server
        hub.requests.append((self.path, dict(self.headers)))
        if hub.drips and self.path.startswith(hub.drips):
            self.drip()
        elif hub.statuses:
            self.answer(hub.statuses.pop(0), b"later")
        elif hub.page:
            self.answer(200, b"<!doctype html><title>Log in</title>", kind="text/html")
        elif self.path == f"/api/models/{NAME}/revision/main?blobs=true":
            self.answer(200, hub.listing())
        elif found := re.fullmatch(f"/{NAME}/resolve/{REVISION}/(.+)", self.path):
            self.send_response(302)
            self.send_header("Location", f"{hub.url}/cdn/{found[1]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/cdn/"):
            self.send_file(self.path.removeprefix("/cdn/"))
        else:
            self.answer(404, b"not found")

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self) -> None:
        if self.path.startswith("/cdn/"):
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 30))
            self.end_headers()
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        with suppress(OSError):
            while not self.server.closing.wait(0.02):
                self.wfile.write(b"x")
        self.close_connection = True

    def send_file(self, name: str) -> None:
        hub = self.server
        body = hub.replaced.get(name, hub.files[name])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if hub.ranges else None
        start = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:] if hub.cut is None else body[start:][: hub.cut(len(body))]
        self.wfile.write(rest if hub.cut_after is None else rest[: hub.cut_after])
        self.close_connection = True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PAUSE", 0.001)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(hub: Hub, folder: Path, name: str = "chatglm2-6b", **options) -> Path:
    return download(name, folder, endpoint=hub.url, **options)


def test_the_folder_opens_as_a_checkpoint_and_holds_no_code(hub: Hub, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    folder = fetch(hub, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.config.generation == "v2"
    names = {path.name for path in folder.iterdir()}
    assert not any(name.endswith((".py", ".md", ".part")) for name in names)
    assert not (tmp_path / "evil.model").exists()
    assert all((folder / name).read_bytes() == hub.files[name] for name in names)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and seen[-1][0] == seen[-1][1]


def test_a_finished_download_asks_for_nothing_but_the_listing(hub: Hub, tmp_path: Path):
    fetch(hub, tmp_path)
    hub.requests.clear()
    fetch(hub, tmp_path)
    assert len(hub.requests) == 1


def test_cut_connections_go_on_where_they_were_cut(hub: Hub, tmp_path: Path):
    hub.cut_after = 30_000
    with open_checkpoint(fetch(hub, tmp_path)):
        pass
    ranges = [headers["Range"] for _, headers in hub.requests if "Range" in headers]
    assert "bytes=30000-" in ranges and "bytes=60000-" in ranges


def test_a_new_run_goes_on_from_what_a_dead_one_left(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub.cut_after = 0
    with pytest.raises(GlmError, match="cannot be reached"):
        fetch(hub, tmp_path)
    hub.cut_after = 50_000
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if done > 120_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, progress=stop)
    assert list(tmp_path.glob(".*.part"))
    hub.cut_after = None
    hub.requests.clear()
    with open_checkpoint(fetch(hub, tmp_path)):
        pass
    assert any("Range" in headers for _, headers in hub.requests)
    assert not list(tmp_path.glob(".*.part"))


def test_a_server_without_ranges_sends_everything_again(hub: Hub, tmp_path: Path):
    shard = next(name for name in hub.files if name.endswith(".safetensors"))
    data = hub.files[shard]
    (tmp_path / f".{shard}.{hashlib.sha256(data).hexdigest()[:12]}.part").write_bytes(b"x" * 100)
    hub.ranges = False
    assert (fetch(hub, tmp_path) / shard).read_bytes() == data


def test_a_server_without_ranges_that_always_cuts_is_given_up(hub: Hub, tmp_path: Path):
    hub.ranges, hub.cut_after = False, 5_000
    with pytest.raises(GlmError, match="the connection was cut"):
        fetch(hub, tmp_path)


def test_a_server_without_ranges_that_cuts_at_random_is_given_up_and_said(hub: Hub, tmp_path: Path):
    cuts = random.Random(5)
    hub.ranges, hub.cut = False, lambda size: cuts.randrange(size * 3 // 4)
    with pytest.raises(GlmError, match="brought anything new, and this server cannot go on where it was") as caught:
        fetch(hub, tmp_path)
    assert caught.value.code == "download-failed" and len(hub.requests) < 200


def test_a_server_that_sends_a_byte_each_time_is_given_up_and_said(hub: Hub, tmp_path: Path):
    hub.cut = lambda size: 1 if len(hub.requests) < 1000 else size
    with pytest.raises(GlmError, match="was cut 50 times and brought 50 bytes") as caught:
        fetch(hub, tmp_path)
    assert caught.value.code == "download-failed" and len(hub.requests) < 200


# Dies one step further each time, as by SIGKILL, right before a change to the disk or after a piece that came; then a
# run without death goes on in the same folder.
DYING = """
import os, sys
from pathlib import Path
from glmcore.checkpoint.download import download

url, work = sys.argv[1], Path(sys.argv[2])
CHANGES = ("os.rename", "os.remove", "os.mkdir", "open")

def dying_at(step, folder):
    seen = 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == step:
            os._exit(9)
    def hook(event, arguments):
        changes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES and str(arguments[0]).startswith(str(folder)) and changes:
            count()
    sys.addaudithook(hook)
    download("chatglm2-6b", folder, endpoint=url, progress=count)
    os._exit(0)

step, status = 0, 9
while status == 9:
    step += 1
    folder = work / f"died-{step}"
    child = os.fork()
    if not child:
        dying_at(step, folder)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    download("chatglm2-6b", folder, endpoint=url)
assert status == 0, status
print(step)
"""


def test_a_run_that_dies_at_any_step_loses_nothing_and_leaves_nothing_half(hub: Hub, tmp_path: Path):
    hub.cut_after = 100_000
    command = [sys.executable, "-c", DYING, hub.url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    names = {name for name in hub.files if not name.endswith((".py", ".md")) and "/" not in name}
    for folder in tmp_path.iterdir():
        assert {path.name for path in folder.iterdir()} - {LOCK} == names
        assert all((folder / name).read_bytes() == hub.files[name] for name in names), folder.name


@pytest.mark.parametrize("place", ["/api/", f"/{NAME}/resolve/", "/cdn/"])
def test_a_connection_that_drips_without_end_is_given_up_and_said(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    monkeypatch.setattr(pace, "PATIENCE", 0.2)
    hub.drips = place
    with pytest.raises(GlmError, match=r"no answer within 0.2 s|\d+ bytes came in 0.2 s") as caught:
        fetch(hub, tmp_path / "out")
    assert caught.value.code == "download-failed"
    assert len([path for path, _ in hub.requests if path.startswith(place)]) == module.ATTEMPTS


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_what_was_laid_in_the_folder_before_is_never_written_through(hub: Hub, tmp_path: Path, kind: str):
    shard = next(name for name in hub.files if name.endswith(".safetensors"))
    folder, part = tmp_path / "out", f".{shard}.{hashlib.sha256(hub.files[shard]).hexdigest()[:12]}.part"
    folder.mkdir()
    (tmp_path / "mine").write_text("mine")
    if kind == "link":
        (folder / part).symlink_to(tmp_path / "mine")
    elif kind == "hard link":
        (folder / part).hardlink_to(tmp_path / "mine")
    else:
        os.mkfifo(folder / part)
    with pytest.raises(GlmError, match="no file of an earlier download"):
        fetch(hub, folder)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_second_download_into_the_same_folder_is_told_who_writes_there(hub: Hub, tmp_path: Path):
    refused = []

    def second(done: int, total: int) -> None:
        if done < total:
            with pytest.raises(GlmError, match=f"process {os.getpid()} on"):
                fetch(hub, tmp_path)
            refused.append(done)

    fetch(hub, tmp_path, progress=second)
    assert refused


def test_a_file_with_another_checksum_never_gets_its_name(hub: Hub, tmp_path: Path):
    shard = next(name for name in hub.files if name.endswith(".safetensors"))
    hub.replaced[shard] = hub.files[shard][:-1] + b"?"
    with pytest.raises(GlmError, match="arrived damaged") as caught:
        fetch(hub, tmp_path)
    assert caught.value.code == "download-failed" and shard in str(caught.value)
    assert not (tmp_path / shard).exists() and not list(tmp_path.glob(f".{shard}*"))
    del hub.replaced[shard]
    fetch(hub, tmp_path)


def test_small_files_are_verified_as_git_does(hub: Hub, tmp_path: Path):
    hub.replaced["config.json"] = b"{" + b" " * (len(hub.files["config.json"]) - 2) + b"}"
    with pytest.raises(GlmError, match=r"config\.json arrived damaged"):
        fetch(hub, tmp_path)


def test_a_busy_server_is_asked_again_and_a_missing_model_is_not(hub: Hub, tmp_path: Path):
    hub.statuses = [503, 429, 500]
    fetch(hub, tmp_path / "busy")
    hub.requests.clear()
    with pytest.raises(GlmError, match="THUDM/chatglm9 or a file of it is not there"):
        fetch(hub, tmp_path / "missing", "chatglm9")
    assert len(hub.requests) == 1 and not (tmp_path / "missing").exists()
    hub.statuses = [401]
    with pytest.raises(GlmError, match="set HF_TOKEN"):
        fetch(hub, tmp_path / "closed")


def test_a_web_page_in_place_of_the_listing_or_a_file(hub: Hub, tmp_path: Path):
    hub.page = True
    with pytest.raises(GlmError, match="no listing of a model"):
        fetch(hub, tmp_path)
    with pytest.raises(GlmError, match=r"a web page came in place of config\.json"):
        server = module._Hub(hub.url, NAME)
        server.fetch(RemoteFile("config.json", 10, "0" * 40), REVISION, tmp_path, lambda _: None)


def test_the_token_stays_with_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(hub, tmp_path)
    for path, headers in hub.requests:
        assert ("Authorization" in headers) == (not path.startswith("/cdn/"))


def test_a_file_of_the_users_is_not_overwritten(hub: Hub, tmp_path: Path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(GlmError, match=r"config\.json is there already and is another file"):
        fetch(hub, tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"


def test_no_room_is_said_before_anything_comes(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(GlmError, match="are to come"):
        fetch(hub, tmp_path)
    assert len(hub.requests) == 1


@pytest.mark.parametrize("name", ["../../etc", "a/b/c", "", "owner/..", "a b"])
def test_names_that_are_none(name: str, hub: Hub, tmp_path: Path):
    with pytest.raises(GlmError, match="is no name of a model"):
        fetch(hub, tmp_path, name)
    with pytest.raises(GlmError, match="is no address"):
        download("chatglm2-6b", tmp_path, endpoint="file:///etc")


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("chatglm2-6b", "THUDM/chatglm2-6b"), ("glm-edge-1.5b-chat", "THUDM/glm-edge-1.5b-chat"),
        ("glm-4-9b-0414", "THUDM/GLM-4-9B-0414"), ("glm-z1-32b-0414", "THUDM/GLM-Z1-32B-0414"), ("o/X", "o/X"),
    ],
)  # fmt: skip
def test_short_names_are_those_of_their_repositories(name: str, repository: str, hub: Hub, tmp_path: Path):
    hub.statuses = [404]
    with pytest.raises(GlmError):
        fetch(hub, tmp_path, name)
    assert hub.requests[0][0].startswith(f"/api/models/{repository}/")


def test_weights_are_taken_in_one_format():
    names = ["config.json", "pytorch_model-1-of-1.bin", "pytorch_model.bin.index.json", "model-1-of-1.safetensors",
             "model.safetensors.index.json", "tokenizer.model", "optimizer.bin", "sub/model.safetensors"]  # fmt: skip
    chosen = [file.name for file in choose(RemoteFile(name, 1, "0" * 40) for name in names)]
    assert chosen == [
        "config.json", "model-1-of-1.safetensors", "model.safetensors.index.json", "tokenizer.model"
    ]  # fmt: skip
    old = [file.name for file in choose(RemoteFile(name, 1, "0" * 40) for name in names[:3])]
    assert old == names[:3]


def test_the_command(hub: Hub, tmp_path: Path):
    command = [sys.executable, "-m", "glmcore", "download", "chatglm2-6b"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "" and "verified" in done.stdout
    with open_checkpoint(tmp_path / "chatglm2-6b"):
        pass
    closed = subprocess.run(
        [*command, "--endpoint", hub.url, "-o", str(tmp_path / "chatglm2-6b" / "config.json")],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert closed.returncode == 1 and closed.stderr.startswith("glmcore: error[write-failed]")
    assert closed.stderr.count("\n") == 1


def test_single_files_alone(hub: Hub, tmp_path: Path):
    fetch(hub, tmp_path / "m", only=("config.json",))
    assert os.listdir(tmp_path / "m") == ["config.json"]
    for name in ("gone.safetensors", "../evil.model"):
        with pytest.raises(GlmError) as error:
            fetch(hub, tmp_path / "m", only=("config.json", name))
        assert error.value.code == "download-failed" and name in error.value.what
