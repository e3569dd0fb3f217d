"""Real servers on loopback: in a process of their own as users start them, or in a thread beside their engine."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import REST
from safetensors.torch import load_file, save_file

import glmcore


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and not REST.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no golden data at {REST}"))


@dataclass
class Served:
    """A running server, and requests to it."""

    port: int
    key: str | None = None
    process: subprocess.Popen | None = None
    engine: Any = None
    log: Path | None = None

    def connect(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if self.key:
            headers = {"Authorization": f"Bearer {self.key}", **headers}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        return connection

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Status, body (parsed where it is JSON) and headers."""
        connection = self.connect(method, path, body, **headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8")
        connection.close()
        known = dict(response.headers)
        return response.status, json.loads(text) if "json" in known["content-type"] else text, known

    def chat(self, text: str, **settings: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        status, body, _ = self.ask("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, **settings})
        assert status == 200, body
        return body

    def events(self, path: str, body: Any) -> list[dict[str, Any]]:
        """The events of a stream, each checked to be whole UTF-8; the last one, [DONE], is left out."""
        response = self.connect("POST", path, {**body, "stream": True}).getresponse()
        assert response.status == 200 and response.headers["content-type"].startswith("text/event-stream")
        data = [line[6:].decode("utf-8") for line in response.read().split(b"\n") if line.startswith(b"data: ")]
        assert data[-1] == "[DONE]"
        return [json.loads(text) for text in data[:-1]]

    def named_events(self, path: str, body: Any) -> list[dict[str, Any]]:
        """The events of a stream that come under names, each under its own."""
        response = self.connect("POST", path, {**body, "stream": True}).getresponse()
        assert response.status == 200 and response.headers["content-type"].startswith("text/event-stream")
        told = [event.split("\n") for event in response.read().decode("utf-8").strip().split("\n\n")]
        events = [json.loads(data.removeprefix("data: ")) for _, data in told]
        assert [name for name, _ in told] == [f"event: {event['type']}" for event in events]
        return events

    def client(self) -> Any:
        """OpenAI's own, which asks once."""
        openai = pytest.importorskip("openai")
        base = f"http://127.0.0.1:{self.port}/v1"
        return openai.OpenAI(base_url=base, api_key=self.key or "-", max_retries=0, timeout=60)

    def complete(self, prompt: Any, **settings: Any) -> Any:
        """A completion, by OpenAI's client."""
        return self.client().completions.create(model=self.engine.config.name, prompt=prompt, **settings)

    def stats(self) -> dict[str, Any]:
        return self.ask("GET", "/stats")[1]

    def until(self, fact: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
        """/stats as soon as ``fact`` is true of it."""
        end = time.monotonic() + seconds
        while not fact(stats := self.stats()):
            assert time.monotonic() < end, stats
            time.sleep(0.02)
        return stats


@contextmanager
def started(arguments: list[str], folder: Path, descriptors: int = 1024) -> Iterator[Served]:
    """``glmcore serve`` as a process on a free port, with so many descriptors."""
    key = dict(pairwise(arguments)).get("--api-key")
    complaints = folder / "stderr.txt"
    with (
        complaints.open("w") as errors,
        subprocess.Popen(
            ["bash", "-c", f'ulimit -n {descriptors} && exec "$@"', "bash",
             sys.executable, "-m", "glmcore", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, env={**os.environ, "PYTHONUTF8": "1"},
        ) as process,
    ):  # fmt: skip
        try:
            description, address = process.stdout.readline(), process.stdout.readline()
            assert "Serving on http://127.0.0.1:" in address, description + address + complaints.read_text()
            yield Served(int(address.partition(";")[0].rpartition(":")[2]), key, process, log=complaints)
        finally:
            process.kill()


@contextmanager
def beside(engine: Any, key: str | None) -> Iterator[Served]:
    """A server in a thread."""
    import uvicorn

    from glmcore.server.address import bind
    from glmcore.server.app import create_app
    from glmcore.server.run import configuration

    app = create_app(engine, key)
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(configuration(app))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Served(bound.getsockname()[1], key, engine=engine)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        app.state.line.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Generation → a tiny model with the real vocabulary."""

    @cache
    def folder_of(generation: str) -> Path:
        folder = tmp_path_factory.mktemp(generation)
        for source in (*(REST / generation / "e2e").iterdir(), *(REST / generation / "tokenizer").iterdir()):
            shutil.copy(source, folder / source.name)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def endless(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Greedy answers never end: the end token's row is zero, and others are always above that."""
    folder = tmp_path_factory.mktemp("endless")
    shutil.copytree(tiny("v2"), folder, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.output_layer.weight"][2] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def reciting(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[int, ...]], Path]:
    """Ids → a GLM-4 that answers with these: no layer does anything, each token's vector asks for the next one."""

    def folder_of(ids: tuple[int, ...]) -> Path:
        assert len(set(ids)) == len(ids) <= 16
        folder = tmp_path_factory.mktemp("reciting")
        shutil.copytree(tiny("glm4"), folder, dirs_exist_ok=True)
        tensors = load_file(folder / "model.safetensors")
        for name, tensor in tensors.items():
            if name.endswith(("dense.weight", "dense_4h_to_h.weight", "output_layer.weight")):
                tensor.zero_()
        axes = torch.cat([torch.eye(8), -torch.eye(8)]).bfloat16()
        for axis, now, following in zip(axes, ids, ids[1:], strict=False):
            tensors["transformer.embedding.word_embeddings.weight"][now] = axis
            tensors["transformer.output_layer.weight"][following] = axis
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return folder_of


ASSISTANT, OBSERVATION, USER = 151337, 151338, 151336  # GLM-4's special tokens


@pytest.fixture(scope="session")
def saying(reciting: Callable[[tuple[int, ...]], Path], tiny: Callable[[str], Path]) -> Callable[[str, int], Any]:
    """Text, and the token that ends it → a GLM-4 that answers everything with it."""
    from glmcore.tokenizers import load_tokenizer

    def engine(text: str, end: int) -> Any:
        ids = load_tokenizer(tiny("glm4"), "glm4").encode(text)
        return glmcore.load(reciting((ASSISTANT, *ids, end)), dtype="float32", threads=1)

    return engine


@pytest.fixture(scope="module")
def caller(serving: Callable[..., Served], saying: Callable[[str, int], Any]) -> Served:
    """A GLM-4 that answers everything with a call of get_weather, behind a key."""
    return serving(saying('get_weather\n{"city": "北京"}', OBSERVATION), "secret")


@pytest.fixture(scope="module")
def thinker(serving: Callable[..., Served], saying: Callable[[str, int], Any]) -> Served:
    """A GLM-4 that is taken for a GLM-Z1, and says what one would."""
    engine = saying("二加三。</think>\n五", USER)
    engine.config = replace(engine.config, generation="glm-z1")
    return serving(engine)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Arguments → a server in a process of its own, ended with the module."""
    with ExitStack() as servers:
        yield lambda *arguments, **settings: servers.enter_context(
            started([str(part) for part in arguments], tmp_path_factory.mktemp("serve"), **settings)
        )


@pytest.fixture(scope="module")
def local() -> Iterator[Callable[..., Served]]:
    """Folder → a server in a thread, ended with the module."""
    with ExitStack() as servers:

        def start(folder: Path, key: str | None = None) -> Served:
            return servers.enter_context(beside(glmcore.load(folder, dtype="float32", threads=1), key))

        yield start


@pytest.fixture(scope="module")
def v2(local: Callable[..., Served], tiny: Callable[[str], Path]) -> Served:
    return local(tiny("v2"))


@pytest.fixture(scope="module")
def glm4(local: Callable[..., Served], tiny: Callable[[str], Path]) -> Served:
    return local(tiny("glm4"))


@pytest.fixture(scope="module")
def demo(serving: Callable[..., Served]) -> Served:
    """The demo model in the CPU's kernel, which ends its answers itself."""
    return serving(glmcore.load(quantize="int8", threads=1))


@pytest.fixture(scope="module")
def serving() -> Iterator[Callable[..., Served]]:
    """Engine → a server in a thread, ended with the module."""
    with ExitStack() as servers:
        yield lambda engine, key=None: servers.enter_context(beside(engine, key))
