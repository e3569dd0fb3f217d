"""What is asked of a prompt itself: its logprobs (echo), its embedding, its tokens."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glmcore
from glmcore.engine.observers import MeanState

pytest.importorskip("fastapi")
openai = pytest.importorskip("openai")

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
CAUSAL = ("v2", "v3", "glm4")
TEXT = "The quick brown fox, 北京 and 👋🏽."


@pytest.mark.parametrize("generation", CAUSAL)
def test_an_echo_has_the_logprobs_of_a_teacher_forced_run(
    generation: str, local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    server = local(tiny(generation))
    engine = server.engine
    ids = engine.prompt_ids(TEXT)
    with torch.inference_mode():
        rows = engine.runner.model(torch.tensor([ids]))[0].float().log_softmax(-1)
    [choice] = server.complete(TEXT, echo=True, max_tokens=0, logprobs=2).choices
    found = choice.logprobs
    assert choice.text == TEXT and len(found.tokens) == len(ids)
    assert found.token_logprobs[0] is None and found.top_logprobs[0] is None
    expected = [float(row[token]) for row, token in zip(rows, ids[1:], strict=False)]
    assert found.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    for top, row in zip(found.top_logprobs[1:], rows, strict=False):
        assert max(top.values()) == pytest.approx(float(row.max()), abs=1e-4)
    assert found.text_offset == sorted(found.text_offset) and found.text_offset[:2] == [0, 0]
    for token, begin in zip(found.tokens[2:], found.text_offset[2:], strict=True):
        if token.strip().isascii() and token.strip().isalpha():
            assert TEXT.startswith(token.strip(), begin) or TEXT.startswith(token, begin)


def test_an_echo_comes_before_the_answer(demo: Any) -> None:
    asked = {"temperature": 0, "max_tokens": 6, "logprobs": 1}
    plain = demo.complete(TEXT, **asked).choices[0]
    [echoed] = demo.complete(TEXT, **asked, echo=True).choices
    read = len(demo.engine.prompt_ids(TEXT))
    assert echoed.text == TEXT + plain.text
    assert echoed.logprobs.token_logprobs[read:] == plain.logprobs.token_logprobs
    assert [begin - len(TEXT) for begin in echoed.logprobs.text_offset[read:]] == plain.logprobs.text_offset
    parts = [chunk.choices[0] for chunk in demo.complete(TEXT, **asked, echo=True, stream=True)]
    assert parts[0].text == TEXT and "".join(part.text for part in parts) == echoed.text
    told = [value for part in parts if part.logprobs for value in part.logprobs.token_logprobs]
    assert told == echoed.logprobs.token_logprobs
    assert demo.complete(TEXT, temperature=0, max_tokens=6, echo=True).choices[0].text == echoed.text
    several = demo.complete([TEXT, "hello"], **asked, echo=True, n=2, seed=1).choices
    assert [choice.text.startswith(text) for choice, text in zip(several, [TEXT] * 2 + ["hello"] * 2, strict=True)]
    assert several[1].logprobs.token_logprobs[:read] == echoed.logprobs.token_logprobs[:read]


def test_ids_are_scored_as_they_are(demo: Any) -> None:
    """As lm-evaluation-harness asks: context and continuation as ids, one token more that it drops."""
    tokenizer = demo.engine.tokenizer
    context, continuation = tokenizer.encode("what is", add_special_tokens=True), tokenizer.encode("libcuda")
    asked = {"max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234}
    [choice] = demo.complete([context + continuation], **asked).choices
    assert len(choice.logprobs.token_logprobs) == len(context) + len(continuation) + 1
    [alone] = demo.complete(context + continuation, **{**asked, "max_tokens": 0}).choices
    assert choice.logprobs.token_logprobs[:-1] == alone.logprobs.token_logprobs
    assert choice.text.startswith("what is")


def test_chatglm_6b_says_why_a_text_has_none(local: Callable[..., Any], tiny: Callable[[str], Path]) -> None:
    server = local(tiny("v1"))
    engine = server.engine
    status, reply, _ = server.ask("POST", COMPLETIONS, {"prompt": "a b", "echo": True, "logprobs": 1})
    assert status == 400 and "both ways" in reply["error"]["message"] and reply["error"]["param"] == "echo"
    [choice] = server.complete("hello you", echo=True, max_tokens=2, temperature=0).choices
    assert choice.text.startswith("hello you")
    context, more = engine.prompt_ids("hello"), engine.tokenizer.encode("good day")
    found = server.complete(context + more, echo=True, max_tokens=0, logprobs=0).choices[0].logprobs
    assert found.token_logprobs[: len(context)] == [None] * len(context)
    assert all(value < 0 for value in found.token_logprobs[len(context) :])
    vectors = server.client().embeddings.create(model="chatglm-6b", input=["hello", "good day"])
    assert len(vectors.data[0].embedding) == engine.config.hidden_size
    assert vectors.usage.prompt_tokens == sum(len(engine.prompt_ids(text)) for text in ("hello", "good day"))


@pytest.mark.parametrize("generation", CAUSAL)
def test_an_embedding_is_the_mean_of_the_last_states(
    generation: str, local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    server = local(tiny(generation))
    engine, texts = server.engine, [TEXT, "hello", "again: " * 40]
    create = server.client().embeddings.create
    reply = create(model=engine.config.name, input=texts)  # base64, as the client asks by itself
    plain = create(model=engine.config.name, input=texts, encoding_format="float")
    for place, text in enumerate(texts):
        own, ids = engine.tokenizer.encode(text), engine.prompt_ids(text)
        states: list[torch.Tensor] = []
        with torch.inference_mode():
            engine.runner.model(torch.tensor([ids]), states=states)
            mean = engine.runner.model.final_norm(states[-1][0])[len(ids) - len(own) :].mean(0)
        expected = (mean / mean.norm()).tolist()
        assert reply.data[place].index == place
        assert reply.data[place].embedding == pytest.approx(expected, abs=1e-4)
        assert np.float32(plain.data[place].embedding).tolist() == np.float32(reply.data[place].embedding).tolist()
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == sum(len(engine.prompt_ids(text)) for text in texts)
    by_ids = create(model=engine.config.name, input=[engine.tokenizer.encode(text) for text in texts])
    assert [each.embedding for each in by_ids.data] == [each.embedding for each in reply.data]
    one = create(model=engine.config.name, input=engine.tokenizer.encode("hello"), dimensions=engine.config.hidden_size)
    assert one.data[0].embedding == reply.data[1].embedding
    raw = server.ask("POST", EMBEDDINGS, {"input": "hello", "encoding_format": "base64"})[1]["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(raw), "<f4").tolist() == one.data[0].embedding


def test_embeddings_of_many_texts_take_one_place_and_hold_nobody_up(serving: Callable[..., Any]) -> None:
    server = serving(glmcore.load(quantize="int8", threads=1, parallel=2))
    texts = [f"text {number}" for number in range(90)]  # more than the line has places
    alone = {text: server.engine.embed([text])[0].tolist() for text in texts[::30]}
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(server.client().embeddings.create(model=server.engine.config.name, input=texts * 3))
    )
    thread.start()
    most = 0
    while thread.is_alive():
        assert server.chat("hello", max_tokens=3)["choices"]
        queue = server.stats()["queue"]
        most = max(most, queue["running"] + queue["waiting"])
    thread.join()
    [reply] = found
    assert most <= 1 and len(reply.data) == 270
    for place, text in list(enumerate(texts * 3))[::30]:
        assert reply.data[place].embedding == pytest.approx(alone[text], abs=0)


def test_who_leaves_gives_the_rest_of_its_texts_up(demo: Any) -> None:
    connection = demo.connect("POST", EMBEDDINGS, {"input": ["a long text " * 60] * 400})
    demo.until(lambda stats: stats["queue"]["running"])
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    before = demo.until(lambda stats: not stats["queue"]["running"] and not stats["queue"]["waiting"])
    assert before["totals"]["prompt_tokens"] < 400 * 60 and demo.engine.loop.idle_within(10)


def test_tokens_as_clients_of_vllm_ask_for_them(demo: Any) -> None:
    tokenizer, context = demo.engine.tokenizer, demo.engine.context
    status, reply, _ = demo.ask("POST", "/tokenize", {"prompt": TEXT, "return_token_strs": True})
    ids = demo.engine.prompt_ids(TEXT)
    assert status == 200 and reply["tokens"] == ids and reply["count"] == len(ids)
    assert reply["max_model_len"] == context and len(reply["token_strs"]) == len(ids)
    assert demo.ask("POST", "/tokenize", {"prompt": TEXT, "add_special_tokens": False})[1]["tokens"] == (
        tokenizer.encode(TEXT)
    )
    messages = [{"role": "user", "content": "hello"}]
    for begins in (True, False):
        body = {"messages": messages, "add_generation_prompt": begins, "add_special_tokens": False}
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=begins)
        assert demo.ask("POST", "/tokenize", body)[1] == {
            "tokens": expected, "count": len(expected), "max_model_len": context, "token_strs": None,
        }  # fmt: skip
    text = demo.ask("POST", "/detokenize", {"tokens": tokenizer.encode(TEXT)})[1]
    assert text["prompt"] == text["content"] == tokenizer.decode(tokenizer.encode(TEXT))
    assert demo.ask("POST", "/detokenize", {"tokens": []})[1]["content"] == ""


def test_tokens_as_clients_of_llama_cpp_ask_for_them(v2: Any) -> None:
    tokenizer = v2.engine.tokenizer
    ask = lambda **body: v2.ask("POST", "/tokenize", {"content": TEXT, **body})[1]["tokens"]  # noqa: E731
    assert ask() == tokenizer.encode(TEXT) and ask(add_special=True) == v2.engine.prompt_ids(TEXT)
    pieces = ask(with_pieces=True)
    assert [each["id"] for each in pieces] == ask() and [each["piece"] for each in pieces[:2]] == [" The", " quick"]


def test_the_tokenizer_says_what_ends_a_text(v2: Any) -> None:
    status, reply, _ = v2.ask("GET", "/tokenizer_info")
    assert status == 200 and reply["eos_token"] == "</s>" and reply["model_max_length"] == v2.engine.context


def wrong() -> Iterable[tuple[str, dict[str, Any], str]]:
    for value in ("yes please", 2, []):
        yield COMPLETIONS, {"prompt": "a", "echo": value}, "echo"
    yield "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "echo": True}, "echo"
    for value in ("", [], [""], [[]], [1.5], ["a", 1], {}, None, [-1], [10**9], ["a"] * 2049, "word " * 40_000):
        yield EMBEDDINGS, {"input": value}, "input" if value not in ([10**9], "word " * 40_000) else ""
    for value in (0, 3, 10**6, "all", True):
        yield EMBEDDINGS, {"input": "a", "dimensions": value}, "dimensions"
    for value in ("hex", 1):
        yield EMBEDDINGS, {"input": "a", "encoding_format": value}, "encoding_format"
    yield "/tokenize", {}, "prompt"
    yield "/tokenize", {"prompt": "a", "content": "b"}, "content"
    yield "/tokenize", {"prompt": ["a"]}, "prompt"
    yield "/tokenize", {"messages": [{"role": "cat", "content": "a"}]}, ""
    yield "/tokenize", {"messages": [{"role": "user", "content": "a"}], "add_special_tokens": True}, "messages"
    for value in ([-1], [10**9], "ab", ["a"], None):
        yield "/detokenize", {"tokens": value}, "tokens"


@pytest.mark.parametrize("path, body, named", list(wrong()))
def test_what_makes_no_sense_is_refused(v2: Any, path: str, body: dict[str, Any], named: str) -> None:
    status, reply, _ = v2.ask("POST", path, body)
    assert status == 400 and reply["error"]["type"] == "invalid_request_error", reply
    assert set(reply["error"]) == {"message", "type", "param", "code"} and len(reply["error"]["message"]) <= 300
    assert not named or (reply["error"]["param"] or "").partition(".")[0] == named, reply


def test_another_model_is_not_here(v2: Any) -> None:
    for path, body in ((EMBEDDINGS, {"input": "a"}), ("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})):
        assert v2.ask("POST", path, {**body, "model": "gpt-4"})[0] == 404


def test_states_that_are_no_numbers_are_a_failure(v2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeanState, "_see", lambda self, way, states: setattr(self, "_total", torch.tensor([torch.nan])))
    status, reply, _ = v2.ask("POST", EMBEDDINGS, {"input": "a"})
    assert status == 500 and reply["error"]["code"] == "not-finite"
