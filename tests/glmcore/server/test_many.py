"""A real server that many ask at once: all are answered, as if alone, and whoever leaves leaves nothing behind."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import glmcore

pytest.importorskip("fastapi")
CHAT = "/v1/chat/completions"
QUESTIONS = ["what is libcuda?", "gcc is missing", "我没有gcc怎么办", "how do I quantise a model?", "hello", "显存不够"]


@pytest.fixture(scope="module")
def server(serving: Callable[..., Any]) -> Any:
    """The demo model in the CPU's kernel."""
    return serving(glmcore.load(quantize="int8", precision="light", threads=1))


def asked(text: str, **settings: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24, **settings}


def answer(server: Any, body: dict[str, Any]) -> str:
    if not body.get("stream"):
        status, reply, _ = server.ask("POST", CHAT, body)
        assert status == 200, reply
        return reply["choices"][0]["message"]["content"]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in server.events(CHAT, body))


def test_who_asks_together_is_told_what_each_is_told_alone(server: Any) -> None:
    bodies = [
        asked(text, stream=bool(number % 2), **({"temperature": 0.9, "seed": number} if number % 3 else {}))
        for number, text in enumerate(QUESTIONS * 4)
    ]
    alone = [answer(server, body) for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as clients:
        assert list(clients.map(lambda body: answer(server, body), bodies)) == alone
    stats = server.stats()
    assert stats["queue"]["parallel"] == 16 and len(set(alone)) > len(QUESTIONS)


def test_several_conversations_keep_what_was_read(server: Any) -> None:
    talks = [[{"role": "user", "content": text}] for text in QUESTIONS[:4]]
    for turn in range(3):
        for talk in talks:
            status, reply, _ = server.ask("POST", CHAT, {"messages": talk, "temperature": 0, "max_tokens": 20})
            assert status == 200
            cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached > 10 or not turn
            talk += [reply["choices"][0]["message"], {"role": "user", "content": "and then?"}]
    figures = server.stats()["prefix_cache"]
    assert 0 < figures["bytes"] <= figures["limit_bytes"] and figures["entries"] and figures["found_tokens"] > 100


def test_who_leaves_at_random_leaves_no_row_behind(server: Any) -> None:
    chance = random.Random(8)
    plans = [
        (asked(chance.choice(QUESTIONS) * chance.randint(1, 4), stream=chance.random() < 0.7), chance.random())
        for _ in range(120)
    ]

    def client(plan: tuple[dict[str, Any], float]) -> str | None:
        body, stays = plan
        if stays > 0.5:
            return answer(server, body)
        connection = server.connect("POST", CHAT, body)
        if stays > 0.2:
            connection.getresponse().read(int(stays * 1000))
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        return None

    with ThreadPoolExecutor(12) as clients:
        told = list(clients.map(client, plans))
    server.until(lambda stats: stats["queue"]["running"] == stats["queue"]["waiting"] == 0)
    loop = server.engine.loop
    assert loop.idle_within(10)
    assert not loop.scheduler and not loop.seats.taken and not loop._readings
    assert sorted(loop.seats.free) == list(range(len(loop.seats.free)))
    for (body, _), text in zip(plans, told, strict=True):
        if text is not None:
            assert text == answer(server, {**body, "stream": False})


def test_figures_of_drafts_are_told(server: Any) -> None:
    before = server.stats()["totals"]
    words = " ".join(f"item{n % 7}" for n in range(40))
    server.ask("POST", "/v1/completions", {"prompt": words, "temperature": 0, "max_tokens": 200})
    after = server.stats()
    assert after["totals"]["accepted_drafts"] >= before["accepted_drafts"]
    assert {"accepted_drafts", "prefix_cache"} <= set(after["definitions"])
    text = server.ask("GET", "/metrics")[1]
    assert "glmcore_accepted_drafts_total" in text and "glmcore_rejected_drafts_total" in text
    assert json.dumps(after["last"])


def test_a_context_that_overflows_is_said_with_its_numbers(serving: Callable[..., Any]) -> None:
    small = serving(glmcore.load(quantize="int8", threads=1, context=64, parallel=2))
    status, reply, _ = small.ask("POST", CHAT, asked("word " * 100))
    assert status == 400 and reply["error"]["code"] == "context_length_exceeded"
    assert "context is 64" in reply["error"]["message"]
    status, reply, _ = small.ask("POST", CHAT, asked("hello", max_tokens=-1))
    assert status == 200 and reply["usage"]["total_tokens"] <= 64
    assert small.stats()["queue"]["parallel"] == 2
    assert small.ask("GET", "/v1/models")[1]["data"][0]["max_model_len"] == 64
