"""Several answers to one request, their logprobs, lists of prompts: with the official client, against single ones."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import glmcore
from glmcore.engine.runner import Runner
from glmcore.engine.sampling import SEEDS, Sampling

pytest.importorskip("fastapi")
openai = pytest.importorskip("openai")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GENERATIONS = ("v1", "v2", "v3", "glm4")
HELLO = [{"role": "user", "content": "你好 hello"}]


def texts(reply: Any) -> list[str]:
    assert [choice.index for choice in reply.choices] == list(range(len(reply.choices)))
    return [choice.text for choice in reply.choices]


def expected(engine: Any, prompt: list[int], said: list[int]) -> torch.Tensor:
    """log_softmax [said, V] in float32 by the modules, one token after the other."""
    runner = Runner(engine.runner.model, engine.config)
    rows = [runner.prefill(prompt)]
    rows += [runner.decode(token).clone() for token in said[:-1]]
    return torch.stack(rows).float().log_softmax(-1)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_chats_logprobs_are_the_models(
    generation: str, local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    server = local(tiny(generation))
    engine = server.engine
    asked = {"model": engine.config.name, "messages": HELLO, "temperature": 0.9, "seed": 3, "max_tokens": 8}
    create = server.client().chat.completions.create
    reply = create(**asked, logprobs=True, top_logprobs=4)
    [choice] = reply.choices
    content = choice.logprobs.content
    assert create(**asked).choices[0].message == choice.message and create(**asked).choices[0].logprobs is None
    said = list(engine.submit(prompt := engine.prompt(HELLO, None), max_new_tokens=8,
                              sampling=engine.sampling(0.9, None, 3)))  # fmt: skip
    tokens = [piece.token for piece in said if piece.token is not None]
    assert reply.usage.completion_tokens == len(content) == len(tokens)
    rows = expected(engine, prompt, tokens)
    for entry, token, row in zip(content, tokens, rows, strict=True):
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert bytes(entry.bytes) == engine.tokenizer.bytes_of(token)
        values, ids = row.topk(4)
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(values.tolist(), abs=1e-4)
        assert [bytes(top.bytes) for top in entry.top_logprobs] == [engine.tokenizer.bytes_of(i) for i in ids.tolist()]
    streamed = [chunk.choices[0] for chunk in create(**asked, logprobs=True, top_logprobs=4, stream=True)]
    assert [entry for chunk in streamed if chunk.logprobs for entry in chunk.logprobs.content] == content
    assert "".join(chunk.delta.content or "" for chunk in streamed) == choice.message.content


def test_a_completions_logprobs_have_four_lists(demo: Any) -> None:
    asked = {"temperature": 0, "max_tokens": 60, "logprobs": 3}
    reply = demo.complete("what is libcuda?", **asked)
    [choice] = reply.choices
    found = choice.logprobs
    ended = choice.finish_reason == "stop"
    count = reply.usage.completion_tokens + ended
    assert [len(each) for each in (found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset)] == [
        count
    ] * 4
    for token, value, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
        assert top[token] == value == max(top.values()) and 1 <= len(top) <= 3 and sum(map(exp, top.values())) <= 1.001
    assert found.text_offset[0] == 0 and found.text_offset == sorted(found.text_offset)
    for token, begin in zip(found.tokens, found.text_offset, strict=True):
        if token.isascii() and token.isalnum():
            assert choice.text.startswith(token, begin)
    parts = [chunk.choices[0] for chunk in demo.complete("what is libcuda?", **asked, stream=True)]
    assert "".join(part.text for part in parts) == choice.text
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [each for part in parts if part.logprobs for each in getattr(part.logprobs, name)] == getattr(
            found, name
        )
    alone = demo.complete("what is libcuda?", **{**asked, "logprobs": 0}).choices[0].logprobs
    assert alone.token_logprobs == found.token_logprobs and all(len(top) == 1 for top in alone.top_logprobs)


def exp(value: float) -> float:
    return float(torch.tensor(value).exp())


@pytest.mark.parametrize("generation", GENERATIONS)
def test_each_choice_is_what_its_seed_gives_alone(
    generation: str, local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    server = local(tiny(generation))
    create = server.client().chat.completions.create
    asked = {"model": server.engine.config.name, "messages": HELLO, "temperature": 1, "top_p": 1, "max_tokens": 6}
    reply = create(**asked, n=3, seed=7)
    alone = [create(**asked, seed=seed) for seed in (7, 8, 9)]
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert [choice.message for choice in reply.choices] == [each.choices[0].message for each in alone]
    assert len({choice.message.content for choice in reply.choices}) > 1
    assert reply.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert reply.usage.completion_tokens == sum(each.usage.completion_tokens for each in alone)
    joined = ["", "", ""]
    chunks = list(create(**asked, n=3, seed=7, stream=True, stream_options={"include_usage": True}))
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        joined[choice.index] += choice.delta.content or ""
    assert joined == [choice.message.content for choice in reply.choices]
    assert sorted(choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason) == [0, 1, 2]
    assert chunks[-1].usage.completion_tokens == reply.usage.completion_tokens


def test_choices_of_a_stream_come_side_by_side(demo: Any) -> None:
    chunks = demo.complete("what is libcuda?", n=3, temperature=1, seed=2, max_tokens=30, stream=True)
    order = [chunk.choices[0].index for chunk in chunks]
    assert order != sorted(order) and set(order) == {0, 1, 2}


def test_a_prompts_choices_read_it_once(demo: Any) -> None:
    long = " ".join(f"word{number}" for number in range(150))
    before = demo.stats()["totals"]
    reply = demo.complete(long, n=4, max_tokens=2, seed=1)
    after = demo.stats()["totals"]
    read = (after["prompt_tokens"] - after["reused_tokens"]) - (before["prompt_tokens"] - before["reused_tokens"])
    assert reply.usage.prompt_tokens > 150 and read < reply.usage.prompt_tokens + 10


def test_chatglm_6b_too_reads_a_prompt_once_for_all_choices(
    local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    server = local(tiny("v1"))
    before = server.stats()["totals"]
    reply = server.complete("hello " * 30, n=4, max_tokens=3, seed=1, temperature=1)
    after = server.stats()["totals"]
    assert after["reused_tokens"] - before["reused_tokens"] == 3 * reply.usage.prompt_tokens
    assert len(set(texts(reply))) > 1 and reply.usage.prompt_tokens_details.cached_tokens == 0


def test_lists_of_prompts_keep_their_order(demo: Any) -> None:
    encode = demo.engine.tokenizer.encode
    prompts = ["hello", "gcc is missing", "显存不够"]
    asked = {"temperature": 1, "max_tokens": 5, "seed": 11}
    alone = [texts(demo.complete(prompt, **asked, n=2)) for prompt in prompts]
    flat = [text for pair in alone for text in pair]
    reply = demo.complete(prompts, **asked, n=2)
    assert texts(reply) == flat
    assert reply.usage.prompt_tokens == sum(demo.complete(each, **asked).usage.prompt_tokens for each in prompts)
    ids = [encode(prompt, add_special_tokens=True) for prompt in prompts]
    assert texts(demo.complete(ids, **asked, n=2)) == flat and texts(demo.complete(ids[1], **asked, n=2)) == alone[1]
    assert texts(demo.complete([ids[2]], **asked)) == alone[2][:1]


def test_the_best_are_those_whose_tokens_were_likeliest(demo: Any) -> None:
    asked = {"temperature": 1.3, "top_p": 1, "max_tokens": 8, "seed": 5}
    every = demo.complete("hello", **asked, n=5, logprobs=0)

    def mean(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    ranked = [choice.text for choice in sorted(every.choices, key=mean, reverse=True)]
    best = demo.complete("hello", **asked, n=2, best_of=5)
    assert texts(best) == ranked[:2] and best.choices[0].logprobs is None
    assert best.usage.completion_tokens == every.usage.completion_tokens
    with_logprobs = demo.complete(["hello", "hello"], **asked, best_of=5, logprobs=2)
    assert texts(with_logprobs) == ranked[:1] * 2 and with_logprobs.choices[1].logprobs.tokens


def test_a_stop_text_can_be_kept_and_tokens_can_stop(demo: Any) -> None:
    whole = demo.complete("what is libcuda?", temperature=0, max_tokens=12)
    stop = whole.choices[0].text[8:11]
    end = whole.choices[0].text.index(stop) + len(stop)
    more = {"include_stop_str_in_output": True}
    kept = demo.complete("what is libcuda?", temperature=0, max_tokens=12, stop=[stop], extra_body=more)
    assert kept.choices[0].text == whole.choices[0].text[:end] and kept.choices[0].finish_reason == "stop"
    output = list(demo.engine.submit("what is libcuda?", max_new_tokens=12, sampling=Sampling(0, 1)))
    token = output[4].token
    cut = demo.complete(
        "what is libcuda?", temperature=0, max_tokens=12, logprobs=1, extra_body={"stop_token_ids": [token]}
    )
    assert cut.usage.completion_tokens == [piece.token for piece in output].index(token)
    assert cut.choices[0].finish_reason == "stop" and len(cut.choices[0].logprobs.tokens) > cut.usage.completion_tokens


def test_an_answer_may_have_no_token(demo: Any) -> None:
    reply = demo.complete("hello", max_tokens=0)
    assert texts(reply) == [""] and reply.choices[0].finish_reason == "length" and not reply.usage.completion_tokens
    [(first, last)] = [(chunks[0], chunks[-1]) for chunks in [list(demo.complete("hi", max_tokens=0, stream=True))]]
    assert first is last and last.choices[0].finish_reason == "length"


def test_who_leaves_gives_all_choices_up(demo: Any) -> None:
    body = {"prompt": "hello", "n": 6, "max_tokens": 1000, "temperature": 100, "top_p": 1, "seed": 1, "stream": True}
    connection = demo.connect("POST", COMPLETIONS, body)
    connection.getresponse().read(200)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    demo.until(lambda stats: stats["queue"]["running"] == stats["queue"]["waiting"] == 0)
    assert demo.engine.loop.idle_within(10) and not demo.engine.loop.seats.taken


def test_more_than_ever_fits_is_said_with_numbers(serving: Callable[..., Any]) -> None:
    server = serving(glmcore.load(threads=1, parallel=2, context=200))
    for body in ({"prompt": "a", "n": 67}, {"prompt": ["a"] * 23, "n": 3}, {"prompt": "a", "n": 1, "best_of": 69}):
        status, reply, _ = server.ask("POST", COMPLETIONS, {**body, "max_tokens": 1})
        count = str(body.get("best_of") or body["n"] * len(body["prompt"]))
        assert status == 400 and reply["error"]["code"] == "too_many_answers", reply
        assert count in reply["error"]["message"] and "66" in reply["error"]["message"]
    status, reply, _ = server.ask("POST", COMPLETIONS, {"prompt": ["a"] * 22, "n": 3, "max_tokens": 1})
    assert status == 200 and len(reply["choices"]) == 66
    long = server.connect("POST", COMPLETIONS, {"prompt": "a", "n": 60, "max_tokens": 150, "temperature": 100})
    server.until(lambda stats: stats["queue"]["running"] > 0)
    status, reply, headers = server.ask("POST", COMPLETIONS, {"prompt": "a", "n": 7})  # all places or none
    assert status == 503 and reply["error"]["code"] == "queue_full" and headers["retry-after"]
    long.close()
    server.until(lambda stats: stats["queue"]["running"] == stats["queue"]["waiting"] == 0)


def of_chat(**settings: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"messages": HELLO, "max_tokens": 1, **settings}


def of_text(**settings: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"prompt": "a", "max_tokens": 1, **settings}


def wrong() -> Iterable[tuple[str, dict[str, Any], str]]:
    for make in (of_chat, of_text):
        for name, values in {
            "n": [0, -1, 129, 1.5, True, "2", [2]],
            "include_stop_str_in_output": ["maybe", 7, []],
            "stop_token_ids": [5, [-1], ["x"], [1] * 1025],
        }.items():
            yield from ((*make(**{name: value}), name) for value in values)
    for value in (21, -1, True, "3", 2.5):
        yield *of_chat(logprobs=True, top_logprobs=value), "top_logprobs"
        yield *of_text(logprobs=value), "logprobs"
    yield *of_chat(top_logprobs=2), "top_logprobs"
    yield *of_chat(logprobs=2), "logprobs"
    yield *of_chat(best_of=2), "best_of"
    yield *of_text(best_of=1, n=2), "best_of"
    yield *of_text(best_of=2, stream=True), "best_of"
    yield *of_text(best_of=0), "best_of"
    for prompt in ([], [[]], [1, "a"], [[1], "a"], [1.5], [True], [-1], [[2**70]], [10**9], {}, 5, None):
        yield *of_text(prompt=prompt), "prompt"
    for tokens in (-2, "many", 1.5):
        yield *of_text(max_tokens=tokens), "max_tokens"


@pytest.mark.parametrize("path, body, named", list(wrong()))
def test_what_makes_no_sense_is_refused(v2: Any, path: str, body: dict[str, Any], named: str) -> None:
    status, reply, _ = v2.ask("POST", path, body)
    assert status == 400 and reply["error"]["type"] == "invalid_request_error", reply
    assert set(reply["error"]) == {"message", "type", "param", "code"}
    assert (reply["error"]["param"] or "").partition(".")[0] == named, reply


def test_seeds_go_on_at_the_smallest() -> None:
    assert Sampling(seed=SEEDS - 1).of_choice(1).seed == -SEEDS
    assert [Sampling(seed=4).of_choice(number).seed for number in (0, 2)] == [4, 6]
    assert Sampling().of_choice(3).seed is None
