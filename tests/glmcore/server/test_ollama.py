"""Ollama's API over raw HTTP: its lines in their order, its options, its errors, and what clients ask before."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

pytest.importorskip("fastapi")

CHAT, GENERATE = "/api/chat", "/api/generate"
MODEL = "chatglm2-6b"
HELLO = "What is 2+2?"
USER = {"role": "user", "content": HELLO}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
FINAL = {
    "done_reason", "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
    "eval_duration",
}  # fmt: skip


def options(**more: Any) -> dict[str, Any]:
    return {"num_predict": 12, "temperature": 0, **more}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [USER], "options": options(), **more}


def text(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": HELLO, "options": options(), **more}


def whole(server: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, reply, _ = server.ask("POST", path, {**body, "stream": False})
    assert status == 200, reply
    return reply


def streamed(server: Any, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines; that they stream is what happens where nothing is said."""
    response = server.connect("POST", path, body).getresponse()
    assert response.status == 200 and response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.read().decode("utf-8").splitlines()]


def test_a_chat_is_what_openais_says(v2: Any) -> None:
    same = v2.chat(HELLO, max_tokens=12)
    reply = whole(v2, CHAT, chat())
    assert reply["message"] == {"role": "assistant", "content": same["choices"][0]["message"]["content"]}
    assert reply["done"] is True and reply["done_reason"] == "length" and set(reply) >= FINAL
    assert (reply["prompt_eval_count"], reply["eval_count"]) == (same["usage"]["prompt_tokens"], 12)
    assert reply["total_duration"] >= reply["prompt_eval_duration"] + reply["eval_duration"] > 1000
    assert all(isinstance(reply[name], int) for name in FINAL - {"done_reason"})
    assert datetime.fromisoformat(reply["created_at"].replace("Z", "+00:00")).year >= 2025


def test_a_stream_is_the_chat_line_by_line(v2: Any) -> None:
    *lines, last = streamed(v2, CHAT, chat())
    said = "".join(line["message"]["content"] for line in lines)
    assert len(lines) > 1 and said == whole(v2, CHAT, chat())["message"]["content"]
    assert all(line["done"] is False and not FINAL & set(line) and line["model"] == MODEL for line in lines)
    assert last["done"] is True and last["message"]["content"] == "" and set(last) >= FINAL


def test_generate_answers_or_goes_on(v2: Any) -> None:
    assert whole(v2, GENERATE, text())["response"] == whole(v2, CHAT, chat())["message"]["content"]
    *lines, last = streamed(v2, GENERATE, text())
    assert "".join(line["response"] for line in lines) == whole(v2, GENERATE, text())["response"]
    assert last["response"] == "" and last["done"] is True
    raw = whole(v2, GENERATE, text(raw=True))["response"]
    assert [raw] == v2.engine.generate([HELLO], max_new_tokens=12, temperature=0)
    system = {"role": "system", "content": "Be brief."}
    assert whole(v2, GENERATE, text(system="Be brief."))["prompt_eval_count"] == len(
        v2.engine.prompt([system, USER], None)
    )


def test_options_are_carried_out(v2: Any) -> None:
    plain = whole(v2, CHAT, chat())["message"]["content"]
    stop = plain[5:8]
    reply = whole(v2, CHAT, chat(options=options(stop=[stop])))
    assert reply["message"]["content"] == plain[: plain.index(stop)].rstrip() and reply["done_reason"] == "stop"
    assert whole(v2, CHAT, chat(options=options(num_predict=3)))["eval_count"] == 3
    warm = [
        whole(v2, CHAT, chat(options=options(temperature=1, top_p=0.9, top_k=50, seed=seed)))["message"]["content"]
        for seed in (7, 7, 8)
    ]
    assert warm[0] == warm[1] != warm[2]
    body = {"messages": [USER], "temperature": 0, "max_tokens": 12, "repetition_penalty": 5}
    same = v2.ask("POST", "/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]
    assert whole(v2, CHAT, chat(options=options(repeat_penalty=5)))["message"]["content"] == same != plain
    endless = whole(v2, CHAT, chat(options={"temperature": 0}))
    assert endless["done_reason"] == "stop" or endless["eval_count"] + endless["prompt_eval_count"] == v2.engine.context


def test_logprobs_are_those_of_chat(v2: Any) -> None:
    same = v2.chat(HELLO, max_tokens=12, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert len(same) == 12
    body = chat(logprobs=True, top_logprobs=2)
    assert whole(v2, CHAT, body)["logprobs"] == same
    assert [each for line in streamed(v2, CHAT, body) for each in line.get("logprobs", [])] == same
    raw = whole(v2, GENERATE, text(raw=True, logprobs=True))["logprobs"]
    assert len(raw) == 12 and raw[0]["top_logprobs"] == [] and raw[0]["logprob"] <= 0
    assert "logprobs" not in whole(v2, CHAT, chat())


def test_calls_come_whole_and_results_are_read(caller: Any) -> None:
    body = {"model": caller.engine.config.name, "messages": [USER], "tools": [WEATHER], "options": {"temperature": 0}}
    reply = whole(caller, CHAT, body)
    wanted = [{"function": {"name": "get_weather", "arguments": {"city": "北京"}}}]
    assert reply["message"] == {"role": "assistant", "content": "", "tool_calls": wanted}
    assert reply["done_reason"] == "stop"
    assert [line["message"].get("tool_calls") for line in streamed(caller, CHAT, body)] == [wanted, None]
    talk = [USER, reply["message"], {"role": "tool", "tool_name": "get_weather", "content": "晴"}]
    same = [USER, {"role": "assistant", "tool_calls": wanted}, {"role": "tool", "content": "晴"}]
    again = whole(caller, CHAT, {**body, "messages": talk})
    assert again["prompt_eval_count"] == len(caller.engine.prompt(same, [WEATHER]))


def test_thoughts_have_a_field_of_their_own(thinker: Any) -> None:
    name = thinker.engine.config.name
    body = {"model": name, "messages": [USER], "options": {"temperature": 0}}
    reply = whole(thinker, CHAT, {**body, "think": True})
    assert reply["message"] == {"role": "assistant", "content": "五", "thinking": "二加三。"}
    lines = streamed(thinker, CHAT, body)
    assert "".join(line["message"].get("thinking", "") for line in lines) == "二加三。"
    reply = whole(thinker, GENERATE, {"model": name, "prompt": HELLO, "options": {"temperature": 0}})
    assert (reply["response"], reply["thinking"]) == ("五", "二加三。")
    assert thinker.ask("POST", CHAT, {**body, "think": False})[0] == 400


def test_what_clients_ask_before(v2: Any, caller: Any) -> None:
    [model] = v2.ask("GET", "/api/tags")[1]["models"]
    assert model["name"] == model["model"] == MODEL and len(model["digest"]) == 64 and model["size"] > 0
    assert {"family", "parameter_size", "quantization_level"} <= set(model["details"])
    status, shown, _ = v2.ask("POST", "/api/show", {"model": f"{MODEL}:latest"})
    assert status == 200 and shown["capabilities"] == ["completion", "tools"]
    assert shown["model_info"]["v2.context_length"] == v2.engine.context
    assert caller.ask("POST", "/api/show", {"model": caller.engine.config.name})[1]["capabilities"][1:] == ["tools"]
    assert v2.ask("GET", "/api/version")[1]["version"]
    assert whole(v2, CHAT, {"model": MODEL, "messages": []})["done_reason"] == "load"
    assert whole(v2, GENERATE, {"model": MODEL, "keep_alive": "5m"})["done_reason"] == "load"
    assert whole(v2, CHAT, chat(model=f"{MODEL}:latest"))["model"] == f"{MODEL}:latest"


@pytest.mark.parametrize(
    "path, body, status, named",
    [
        (CHAT, b"{", 400, "JSON"),
        (CHAT, {"messages": [USER]}, 400, "model"),
        (CHAT, chat(model="llama3"), 404, MODEL),
        (CHAT, {"model": "llama3"}, 404, MODEL),
        (CHAT, chat(messages="hi"), 400, "messages"),
        (CHAT, chat(messages=[{"role": "cat", "content": "x"}]), 400, "messages[0]"),
        (CHAT, chat(messages=[{**USER, "images": ["x"]}]), 400, "messages.0"),
        (CHAT, chat(messages=[{**USER, "content": "x " * 40_000}]), 400, "context"),
        (CHAT, chat(tools=7), 400, "tools"),
        (CHAT, chat(format="xml"), 400, "format"),
        (CHAT, chat(think=True), 400, "think"),
        (CHAT, chat(options=options(num_ctx=10**6)), 400, "options.num_ctx"),
        (CHAT, chat(options=options(num_ctx="many")), 400, "options.num_ctx"),
        (CHAT, chat(options=options(mirostat=1)), 400, "options.mirostat"),
        (CHAT, chat(options=options(temperature="hot")), 400, "options.temperature"),
        (CHAT, chat(options=options(num_predict=0)), 400, "options.num_predict"),
        (CHAT, chat(options=options(repeat_penalty=0)), 400, "repetition penalty"),
        (CHAT, chat(options=options(repeat_penalty=1.1, repeat_last_n=64)), 400, "options.repeat_last_n"),
        (CHAT, chat(options=[]), 400, "options"),
        (CHAT, chat(max_tokens=5), 400, "max_tokens"),
        (CHAT, chat(n=2), 400, "n is not supported"),
        (CHAT, chat(top_logprobs=2), 400, "logprobs"),
        (CHAT, chat(logprobs=True, top_logprobs=99), 400, "top_logprobs"),
        (GENERATE, text(prompt=7), 400, "prompt"),
        (GENERATE, text(suffix="x"), 400, "suffix"),
        (GENERATE, text(template="{{ .Prompt }}"), 400, "template"),
        (GENERATE, text(context=[1, 2]), 400, "context"),
        (GENERATE, text(images=["x"]), 400, "images"),
        (GENERATE, text(raw=True, system="x"), 400, "system"),
        ("/api/embed", {"model": MODEL}, 400, "input"),
        ("/api/embed", {"model": "llama3", "input": "a"}, 404, MODEL),
        ("/api/embed", {"model": MODEL, "input": "a", "dimensions": 3}, 400, "dimensions"),
        ("/api/embed", {"model": MODEL, "input": "a", "dimensions": 0}, 400, "dimensions"),
        ("/api/pull", {}, 404, "the nearest is"),
        ("/api/chats", {}, 404, "POST /api/chat"),
    ],
)
def test_bad_requests_get_ollamas_error(v2: Any, path: str, body: Any, status: int, named: str) -> None:
    got, reply, _ = v2.ask("POST", path, body)
    assert got == status and set(reply) == {"error"}, reply
    assert named in reply["error"] and len(reply["error"]) <= 300


def test_embeddings_are_openais_at_length_one(v2: Any) -> None:
    same = v2.ask("POST", "/v1/embeddings", {"input": ["one", "two"]})[1]
    status, reply, _ = v2.ask("POST", "/api/embed", {"model": f"{MODEL}:latest", "input": ["one", "two"]})
    assert status == 200 and reply["prompt_eval_count"] == same["usage"]["prompt_tokens"]
    for found, other in zip(reply["embeddings"], same["data"], strict=True):
        length = sum(number**2 for number in other["embedding"]) ** 0.5
        assert found == pytest.approx([number / length for number in other["embedding"]], rel=1e-5)
    assert v2.ask("POST", "/api/embed", {"model": MODEL, "input": "one"})[1]["embeddings"][0] == reply["embeddings"][0]
    assert v2.ask("POST", "/api/embed", {"model": MODEL, "input": []})[1]["embeddings"] == []


def test_options_that_change_nothing_are_taken(v2: Any) -> None:
    more = options(num_ctx=64, num_thread=4, num_gpu=1, mirostat=0, repeat_last_n=64, tfs_z=1, top_p=None, unheard=1)
    reply = whole(v2, CHAT, chat(options=more, keep_alive=0, format="", think=False, tools=[], shift=True))
    assert reply["message"] == whole(v2, CHAT, chat())["message"]


def test_what_stands_before_the_route_answers_in_its_form(v2: Any, caller: Any) -> None:
    for status, headers in ((415, {"Content-Type": "text/plain"}), (403, {"Host": "evil.example"})):
        got, reply, _ = v2.ask("POST", CHAT, chat(), **headers)
        assert got == status and isinstance(reply["error"], str)
    status, reply, _ = caller.ask("GET", "/api/tags", Authorization="")
    assert status == 401 and isinstance(reply["error"], str)
    assert caller.ask("GET", "/api/tags")[0] == 200


def test_a_failure_in_a_stream_is_its_last_line(v2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tokens: dict[int, list[int]]) -> None:
        raise RuntimeError("the text of the prompt")

    with monkeypatch.context() as patched:
        patched.setattr(v2.engine.runner.way, "step", fail)
        last = streamed(v2, CHAT, chat())[-1]
        assert set(last) == {"error"} and "text of the prompt" not in last["error"]
        assert v2.ask("POST", CHAT, chat(stream=False))[0] == 500
    assert whole(v2, CHAT, chat())["message"]["content"]
