"""The server before a model that lies in stages, or on other machines: nothing it is asked is a failure of its own."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from staged import stages_of

from glmcore import demo
from glmcore.config import ModelConfig
from glmcore.engine.engine import Engine
from glmcore.engine.stages.pipeline import Local
from glmcore.engine.stages.runner import staged_engine
from glmcore.server.app import create_app
from glmcore.tokenizers import load_tokenizer

READ = ["/health", "/v1/models", "/stats", "/metrics", "/api/tags", "/api/version", "/"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    layers = ModelConfig.from_folder(demo.folder()).num_layers
    stages = stages_of(demo.folder(), (layers // 2,), layers, quantize="int8")
    found = staged_engine(None, [Local(stage) for stage in stages])
    yield found
    found.loop.close(20)


def client_of(engine: Engine):
    return TestClient(create_app(engine), base_url="http://127.0.0.1", raise_server_exceptions=False)


def test_a_model_in_stages_is_served_as_any_other(engine: Engine) -> None:
    with client_of(engine) as client:
        asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        assert client.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["content"]
        assert {path: client.get(path).status_code for path in READ} == dict.fromkeys(READ, 200)
        stats = client.get("/stats").json()
        assert [len(layers) for layers in stats["placement"].values()] == [2, 2] and "avx" in stats["backend"].lower()
        size = client.get("/api/tags").json()["models"][0]["size"]
        assert 0.5 * size < demo_bytes() < 4 * size
        for path, body in OF_STATES:
            answer = client.post(path, json=body)
            assert answer.status_code == 400 and "several machines" in answer.json()["error"]["message"], answer.text


def demo_bytes() -> int:
    return sum(path.stat().st_size for path in demo.folder().glob("*.safetensors"))


# What is asked for states, which stages do not show.
OF_STATES = (
    ("/v1/embeddings", {"input": "hello"}),
    ("/v1/completions", {"prompt": "hello", "echo": True, "logprobs": 1, "max_tokens": 1}),
)


def test_a_front_without_replicas_answers_what_needs_none() -> None:
    pytest.importorskip("ray", reason="pip install .[ray]")
    from glmcore.cluster.front import Front

    config = ModelConfig.from_folder(demo.folder())
    front = Front(config, load_tokenizer(demo.folder(), config))
    front.cluster = SimpleNamespace(report=dict, metrics=lambda: iter(()))
    with client_of(front) as client:
        assert {path: client.get(path).status_code for path in READ} == dict.fromkeys(READ, 200)
        asked = {"messages": [{"role": "user", "content": "hello"}]}
        for path, body in (*OF_STATES, ("/v1/chat/completions", asked)):  # a replica may show them
            answer = client.post(path, json=body)
            assert answer.status_code == 503 and "retry-after" in answer.headers
