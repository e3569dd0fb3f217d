"""Bodies of every wrong kind, of the routes that read prompts: never a failure of the server's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")

plain = (
    st.none() | st.booleans() | st.integers(-3, 40) | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
)
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=6
)
ids = st.lists(st.integers(0, 70_000), max_size=5)
texts = st.text(max_size=8) | ids | st.lists(st.text(max_size=4), max_size=3) | st.lists(ids, max_size=3) | anything
few = st.integers(0, 5) | anything
flag = st.booleans() | anything
completion = st.fixed_dictionaries(
    {"prompt": texts},
    optional={
        "n": few, "best_of": few, "logprobs": few, "echo": flag, "stream": flag, "stop_token_ids": ids | anything,
        "include_stop_str_in_output": flag, "stop": st.text(max_size=2) | anything, "seed": few, "temperature": few,
    },
)  # fmt: skip
embedding = st.fixed_dictionaries(
    {"input": texts}, optional={"encoding_format": st.sampled_from(["float", "base64"]) | anything, "dimensions": few}
)
tokenized = st.fixed_dictionaries(
    {},
    optional={
        "prompt": texts, "content": texts, "messages": anything, "tools": anything, "add_special_tokens": flag,
        "add_special": flag, "parse_special": flag, "with_pieces": flag, "return_token_strs": flag,
        "add_generation_prompt": flag,
    },
)  # fmt: skip
detokenized = st.fixed_dictionaries({"tokens": ids | anything})
asked = st.one_of(
    *(
        st.tuples(st.just(path), body | anything)
        for path, body in (
            ("/v1/completions", completion), ("/v1/completions", completion), ("/v1/embeddings", embedding),
            ("/tokenize", tokenized), ("/detokenize", detokenized),
        )
    )
)  # fmt: skip


@pytest.fixture(scope="module", params=["v1", "v3"])
def server(request: pytest.FixtureRequest, local: Callable[..., Any], tiny: Callable[[str], Path]) -> Any:
    return local(tiny(request.param))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(asked=asked)
def test_no_body_is_a_failure_of_the_server(server: Any, asked: tuple[str, Any]) -> None:
    path, body = asked
    if isinstance(body, dict) and path == "/v1/completions":
        body = {**body, "max_tokens": 1}
    status, reply, _ = server.ask("POST", path, json.dumps(body).encode("utf-8"))
    assert status in (200, 400, 404), reply
    if status != 200:
        assert set(reply["error"]) == {"message", "type", "param", "code"} and len(reply["error"]["message"]) <= 300
    assert server.engine.loop.idle_within(10) and not server.engine.loop.seats.taken
