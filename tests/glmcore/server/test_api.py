"""The API against what the engine says itself, the original's golden answers, and the official client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
openai = pytest.importorskip("openai")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
ASSISTANT, OBSERVATION, USER = 151337, 151338, 151336  # GLM-4's


def messages_of(case: dict[str, Any]) -> list[dict[str, str]]:
    """The golden case as messages, whatever the generation calls its history."""
    turns = []
    for turn in case["history"]:
        if isinstance(turn, dict):
            turns.append(turn)
        else:
            turns += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return [*turns, {"role": "user", "content": case["query"]}]


def joined(events: list[dict[str, Any]]) -> str:
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])


@pytest.mark.parametrize("generation", ["v1", "v2", "v3", "glm4"])
def test_answers_are_the_originals(generation: str, local: Callable[..., Any], tiny: Callable[[str], Path]) -> None:
    server = local(tiny(generation))
    cases = json.loads((tiny(generation) / "chat_greedy.json").read_text(encoding="utf-8"))
    for case in cases:
        prompt = len(case["input_ids"][0])
        allowed = case["max_length"] - prompt
        body = {"messages": messages_of(case), "temperature": 0, "max_tokens": allowed}
        status, reply, _ = server.ask("POST", CHAT, body)
        assert status == 200, reply
        [choice] = reply["choices"]
        answer = server.engine.chat(body["messages"], temperature=0, max_new_tokens=allowed)
        assert choice["message"] == {"role": "assistant", "content": answer}
        if case["stopped_by_eos"]:
            assert answer == case["response"]
        assert choice["finish_reason"] == ("stop" if case["stopped_by_eos"] else "length")
        generated = len(case["output_ids"][0]) - prompt - case["stopped_by_eos"]
        assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (prompt, generated)
        events = server.events(CHAT, {**body, "stream_options": {"include_usage": True}})
        assert joined(events) == answer
        assert events[0]["choices"][0]["delta"]["role"] == "assistant"
        assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None] * (len(events) - 2) + [
            choice["finish_reason"]
        ]
        assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] == generated


def test_completions_continue_the_text(v2: Any) -> None:
    [text] = v2.engine.generate(["def f(x):"], max_new_tokens=12, temperature=0)
    body = {"prompt": "def f(x):", "temperature": 0, "max_tokens": 12}
    status, reply, _ = v2.ask("POST", COMPLETIONS, body)
    assert status == 200 and reply["choices"][0]["text"] == text and reply["object"] == "text_completion"
    assert reply["choices"][0]["finish_reason"] == "length"
    events = v2.events(COMPLETIONS, {**body, "prompt": ["def f(x):"]})
    assert "".join(event["choices"][0]["text"] for event in events) == text
    assert v2.ask("POST", COMPLETIONS, {"prompt": "x"})[1]["usage"]["completion_tokens"] <= 16


def test_stop_text_ends_the_answer_before_it(v2: Any) -> None:
    whole = v2.chat("What is 2+2?", max_tokens=12)["choices"][0]["message"]["content"]
    stop = whole[10:14]
    cut = v2.chat("What is 2+2?", max_tokens=12, stop=[stop, "nowhere"])["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)].rstrip() and cut["finish_reason"] == "stop"
    assert v2.chat("What is 2+2?", max_tokens=12, stop=stop)["choices"][0] == cut


def test_same_seed_same_answer(v2: Any) -> None:
    answers = {
        v2.chat("hello", max_tokens=12, temperature=1, seed=seed)["choices"][0]["message"]["content"]
        for seed in (7, 7, 8)
    }
    assert len(answers) == 2


def test_pieces_never_end_within_a_character(
    reciting: Callable[..., Path], local: Callable[..., Any], tiny: Callable[[str], Path]
) -> None:
    text = "\n好👋é"
    ids = glm4_ids(tiny, text)
    server = local(reciting((ASSISTANT, *ids, USER)))
    events = server.events(CHAT, {"messages": [{"role": "user", "content": "hi"}], "temperature": 0})
    assert joined(events) == text.strip()
    assert not any("\ufffd" in json.dumps(event, ensure_ascii=False) for event in events)


def glm4_ids(tiny: Callable[[str], Path], text: str) -> list[int]:
    from glmcore.tokenizers import load_tokenizer

    return load_tokenizer(tiny("glm4"), "glm4").encode(text)


@pytest.fixture(scope="module")
def caller(reciting: Callable[..., Path], local: Callable[..., Any], tiny: Callable[[str], Path]) -> Any:
    """A GLM-4 that answers everything with a call of get_weather, behind a key."""
    ids = glm4_ids(tiny, 'get_weather\n{"city": "北京"}')
    return local(reciting((ASSISTANT, *ids, OBSERVATION)), "secret")


def test_tool_calls_through_the_official_client(caller: Any) -> None:
    asked = {"model": caller.engine.config.name, "temperature": 0, "tools": [WEATHER]}
    messages: list[Any] = [{"role": "user", "content": "北京天气？"}]
    answer = caller.client().chat.completions.create(messages=messages, **asked).choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    [call] = answer.message.tool_calls
    assert call.function.name == "get_weather" and json.loads(call.function.arguments) == {"city": "北京"}
    # The client sends the call and its result back, as its documentation shows.
    messages += [answer.message, {"role": "tool", "tool_call_id": call.id, "content": "晴"}]
    again = caller.client().chat.completions.create(messages=messages, **asked).choices[0]
    assert again.message.tool_calls[0].function == call.function


def test_streamed_tool_calls_through_the_official_client(caller: Any) -> None:
    stream = caller.client().chat.completions.create(
        model=caller.engine.config.name,
        messages=[{"role": "user", "content": "北京天气？"}],
        temperature=0,
        tools=[WEATHER],
        stream=True,
    )
    choices = [chunk.choices[0] for chunk in stream]
    first, *more = [call for choice in choices for call in choice.delta.tool_calls or []]
    assert (first.index, first.type, first.function.name) == (0, "function", "get_weather")
    assert first.function.arguments == ""
    assert first.id and len(more) > 1 and not any(call.id or call.function.name or call.index for call in more)
    assert json.loads("".join(call.function.arguments for call in more)) == {"city": "北京"}
    assert not any(choice.delta.content for choice in choices) and choices[-1].finish_reason == "tool_calls"


def test_a_call_of_nothing_that_was_offered_is_text(caller: Any) -> None:
    said = 'get_weather\n{"city": "北京"}'
    other = {"type": "function", "function": {"name": "get_time"}}
    for settings in ({}, {"tools": [other]}, {"tools": [WEATHER], "tool_choice": "none"}):
        [choice] = caller.chat("北京天气？", **settings)["choices"]
        assert choice["message"]["content"] == said and choice["finish_reason"] == "stop"
    cut = caller.chat("北京天气？", tools=[WEATHER], max_tokens=5)["choices"][0]
    [call] = cut["message"]["tool_calls"]
    assert cut["finish_reason"] == "length" and '{"city": "北京"}'.startswith(call["function"]["arguments"])


def test_the_key_is_asked_for_everywhere_but_at_health(caller: Any) -> None:
    assert caller.ask("GET", "/health", Authorization="")[:2] == (200, {"status": "ok"})
    for path in ("/v1/models", "/stats", "/metrics", "/openapi.json", "/nowhere"):
        for wrong in ("", "Bearer", "Bearer secre", "secret", "Bearer sécret"):
            status, body, headers = caller.ask("GET", path, Authorization=wrong)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key"), (path, wrong)
            assert headers["www-authenticate"] == "Bearer"
        assert caller.ask("GET", path)[0] == (404 if path == "/nowhere" else 200)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"http://127.0.0.1:{caller.port}/v1", api_key="wrong", max_retries=0).models.list()


def test_models_through_the_official_client(v2: Any) -> None:
    [model] = v2.client().models.list().data
    assert model.id == "chatglm2-6b" and v2.client().models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError):
        v2.client().models.retrieve("gpt-4")


def user(**settings: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], **settings}


@pytest.mark.parametrize(
    "path, body, status, named",
    [
        (CHAT, b"{", 400, "JSON"),
        (CHAT, b"\xff", 400, ""),
        (CHAT, b"[" * 100_000, 400, ""),
        (CHAT, [], 400, ""),
        (CHAT, {}, 400, "messages"),
        (CHAT, {"messages": []}, 400, "message"),
        (CHAT, {"messages": "hi"}, 400, "messages"),
        (CHAT, {"messages": [{"role": "cat", "content": "x"}]}, 400, "messages[0]"),
        (CHAT, {"messages": [{"role": "user", "content": 3}]}, 400, "messages[0]"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0]"),
        (CHAT, {"messages": [{"role": "user", "content": "x " * 40_000}]}, 400, "context"),
        (CHAT, user(temperature=-1), 400, "temperature"),
        (CHAT, user(temperature="hot"), 400, "temperature"),
        (CHAT, user(top_p=0), 400, "top-p"),
        (CHAT, user(max_tokens=0), 400, "max_tokens"),
        (CHAT, user(seed=2**70), 400, "seed"),
        (CHAT, user(stop=["x"] * 99), 400, "stop"),
        (CHAT, user(repeat_penalty=2), 400, "repeat_penalty is not supported; only 1 is taken"),
        (CHAT, user(response_format={"type": "xml"}), 400, "response_format"),
        (CHAT, user(tools=[{"type": "function", "function": {}}]), 400, "tools"),
        (CHAT, user(tool_choice="required"), 400, "tool_choice"),
        (CHAT, user(stream_options={"include_usage": True}), 400, "stream_options"),
        (CHAT, user(model="gpt-4"), 404, "model"),
        ("/v1/nothing", {}, 404, "/v1/nothing"),
        ("/health", {}, 405, "there is no POST /health here; the nearest is GET /health"),
        ("/chat/completions", {}, 404, "POST /v1/chat/completions"),
        ("/v1/chat/completion", {}, 404, "POST /v1/chat/completions"),
        ("/v1/v1/chat/completions", {}, 404, "POST /v1/chat/completions"),
        ("/v1/responses/x/cancel", {}, 404, "POST /v1/responses"),
        ("/" + "x" * 5000, {}, 404, "the nearest is"),
    ],
)
def test_bad_requests_get_an_error_object(v2: Any, path: str, body: Any, status: int, named: str) -> None:
    got, reply, _ = v2.ask("POST", path, body)
    error = reply["error"]
    assert got == status and set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert named in f"{error['message']} {error['param']}" and "Traceback" not in error["message"]
    assert "\n" not in error["message"] and len(error["message"]) < 300


@pytest.mark.parametrize(
    "settings, param",
    [
        ({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"), ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"), ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"), ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"9999999": 1}}, "logit_bias"), ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"tools": [{"type": "web_search"}]}, "tools"), ({"tool_choice": "required"}, "tool_choice"),
    ],
)  # fmt: skip
def test_the_field_that_is_wrong_is_named(v2: Any, settings: dict[str, Any], param: str) -> None:
    assert v2.ask("POST", CHAT, user(**settings))[1]["error"]["param"] == param


def test_a_prompt_that_is_too_long_is_the_messages_and_what_describes_tools(v2: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": "x " * 40_000}}}
    held = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    error = v2.ask("POST", CHAT, user(response_format=held))[1]["error"]
    assert error["param"] == "messages" and error["message"].endswith("what describes tools and schemas is part of it")
    long = "x " * 40_000
    for path, body, param in (
        (CHAT, {"messages": [{"role": "user", "content": long}]}, "messages"),
        ("/v1/responses", {"input": long}, "input"),
    ):  # fmt: skip
        error = v2.ask("POST", path, body)[1]["error"]
        assert (error["param"], error["code"]) == (param, "context_length_exceeded")
        assert error["message"].endswith("tokens or more")
    assert v2.stats()["model"]["context"] == v2.engine.context


def test_what_is_wrong_is_said_for_people(v2: Any) -> None:
    for path, body, said in (
        (CHAT, [1], "the body is to be a JSON object"),
        (CHAT, user(tools=[{"type": "web_search"}]), "unknown kind of tool 'web_search'; functions can be offered"),
        (CHAT, user(tool_choice="required"), "tool_choice asks for a call, and there are no tools"),
        ("/tokenize", {"prompt": "a", "content": "b"}, "one is needed, and one alone"),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}], "max_tokens": 1},
         "messages.0.content.0.type: a block of the type 'image' is not supported; these models read text"),
    ):  # fmt: skip
        assert said in v2.ask("POST", path, body)[1]["error"]["message"]


def test_head_asks_whether_the_server_is_there(v2: Any) -> None:
    """As Ollama's own command does before each of its calls, and what watches over servers."""
    for path in ("/", "/health"):
        response = v2.connect("HEAD", path).getresponse()
        assert response.status == 200 and response.read() == b""
    assert v2.connect("HEAD", CHAT).getresponse().status == 405


def test_requests_for_a_stream_fail_before_it_begins(v2: Any) -> None:
    assert v2.ask("POST", CHAT, user(stream=True, grammar="x"))[0] == 400
    assert v2.ask("POST", CHAT, {"messages": [{"role": "user", "content": "x " * 40_000}], "stream": True})[0] == 400


def test_fields_that_ask_for_nothing_are_taken(v2: Any) -> None:
    neutral = {"n": 1, "logprobs": None, "frequency_penalty": 0.0, "user": "me", "response_format": {"type": "text"}}
    assert v2.chat("hi", max_tokens=2, stream=None, stop=None, tools=[], **neutral)["choices"]


def test_a_bias_and_penalties_change_what_is_said(v2: Any) -> None:
    plain, token = v2.chat("hi", max_tokens=8), 100
    assert v2.chat("hi", max_tokens=8, logit_bias={str(token): 100}) != plain
    forced = v2.chat("hi", max_tokens=8, logit_bias={str(token): 100})["choices"][0]["message"]["content"]
    tokenizer = v2.engine.tokenizer
    assert forced.strip() == tokenizer.decode([token] * 8).strip()
    again = v2.chat("hi", max_tokens=8, logit_bias={"100": 100, "200": 99}, frequency_penalty=2, temperature=0)
    assert again["choices"][0]["message"]["content"].count(tokenizer.decode([200]).strip()) >= 3
    assert v2.chat("hi", max_tokens=8, temperature=1, top_k=1)["choices"] == plain["choices"]
    assert v2.chat("hi", max_tokens=8, temperature=1, min_p=1)["choices"] == plain["choices"]


@pytest.mark.parametrize(
    "field",
    [
        {"logit_bias": {"-1": 1}}, {"logit_bias": {"x": 1}}, {"logit_bias": {"99999999": 1}},
        {"logit_bias": {"5": 101}}, {"logit_bias": [5]},
        {"presence_penalty": 3}, {"frequency_penalty": "much"}, {"top_k": -2}, {"min_p": 2},
        {"repetition_penalty": 0},
    ],
)  # fmt: skip
def test_a_bias_and_penalties_out_of_range_are_refused(v2: Any, field: dict[str, Any]) -> None:
    status, reply, _ = v2.ask("POST", CHAT, user(**field))
    assert status == 400 and reply["error"]["type"] == "invalid_request_error", reply


def test_text_that_is_no_unicode_is_answered(v2: Any) -> None:
    body = b'{"messages": [{"role": "user", "content": "a \\ud800 b"}], "max_tokens": 2}'
    assert v2.ask("POST", CHAT, body)[0] == 200
    assert v2.ask("POST", COMPLETIONS, b'{"prompt": "\\udfff", "max_tokens": 2}')[0] == 200


def test_bodies_are_limited(v2: Any) -> None:
    declared = v2.connect("POST", CHAT, b"", **{"Content-Length": str(2**30)})
    assert declared.getresponse().status == 413
    connection = v2.connect("GET", "/health")
    connection.getresponse().read()
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for _ in range(9):
        connection.send(b"100000\r\n" + b" " * 2**20 + b"\r\n")
    response = connection.getresponse()
    assert response.status == 413 and json.loads(response.read())["error"]["type"] == "invalid_request_error"


def test_web_pages_cannot_use_the_server(v2: Any) -> None:
    assert v2.ask("POST", CHAT, user(), **{"Content-Type": "text/plain"})[0] == 415
    assert v2.ask("POST", CHAT, user(), Host="evil.example")[0] == 403
    assert v2.ask("POST", CHAT, user(max_tokens=1), Host="localhost:80")[0] == 200
    status, _, headers = v2.ask("GET", "/health", Origin="http://evil.example")
    assert status == 200 and not [name for name in headers if name.lower().startswith("access-control")]


def test_a_failing_model_is_a_500_and_the_next_answer_comes(
    v2: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tokens: dict[int, list[int]]) -> None:
        raise RuntimeError("the text of the prompt")

    before = v2.chat("hello", max_tokens=6)
    with monkeypatch.context() as patched:
        patched.setattr(v2.engine.runner.way, "step", fail)
        status, body, _ = v2.ask("POST", CHAT, user())
        assert (status, body["error"]["type"]) == (500, "server_error") and "prompt" not in body["error"]["message"]
        events = v2.events(CHAT, user())
        assert events[-1]["error"]["code"] == "internal"
    assert "RuntimeError" in caplog.text
    assert v2.chat("hello", max_tokens=6)["choices"] == before["choices"]
