"""Answers that the asker has begun, in every dialect that has a way to say so: the model goes on from that text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")

CHAT, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/messages", "/api/chat"
SAID = "The sky is blue today"
TALK = [{"role": "user", "content": "What colour?"}, {"role": "assistant", "content": "The sky"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server(serving: Callable[..., Any], saying: Callable[[str, int], Any]) -> Any:
    return serving(saying(SAID, 151336))  # GLM-4's <|user|> ends it


def chat(server: Any, messages: Any = TALK, **more: Any) -> tuple[int, Any]:
    body = {"messages": messages, "temperature": 0, "continue_final_message": True, **more}
    return server.ask("POST", CHAT, body)[:2]


def test_the_answer_goes_on_with_the_blank_that_it_begins_with(server: Any) -> None:
    for more in ({}, {"add_generation_prompt": False}):
        status, reply = chat(server, **more)
        assert status == 200 and reply["choices"][0]["message"]["content"] == " is blue today", reply
    parts = server.events(CHAT, {"messages": TALK, "temperature": 0, "continue_final_message": True})
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == " is blue today"
    # Without it the message before is an answer of its own, and the new one begins anew.
    assert chat(server, continue_final_message=False)[1]["choices"][0]["message"]["content"] == SAID


def test_anthropics_and_ollamas_clients_begin_an_answer_by_its_place(server: Any) -> None:
    blocks = [{"type": "text", "text": text} for text in ("The", " sky")]
    for messages in (TALK, [TALK[0], {"role": "assistant", "content": blocks}]):
        status, reply, _ = server.ask("POST", MESSAGES, {"messages": messages, "max_tokens": 20, "temperature": 0})
        assert status == 200 and reply["content"][0]["text"] == " is blue today", reply
    counted = server.ask("POST", f"{MESSAGES}/count_tokens", {"messages": TALK})[1]["input_tokens"]
    assert counted == reply["usage"]["input_tokens"] + reply["usage"]["cache_read_input_tokens"]
    asked = {"model": server.engine.config.name, "messages": TALK, "stream": False, "options": {"temperature": 0}}
    assert server.ask("POST", OLLAMA, asked)[1]["message"]["content"] == " is blue today"


def test_a_word_keeps_its_blank_where_the_vocabulary_hides_the_first(
    local: Callable[..., Any], tiny: Callable[[str], Any]
) -> None:
    """SentencePiece drops the blank before a text's first word; the word that goes on with a text has it."""
    server = local(tiny("v2"))
    [token] = server.engine.tokenizer.encode("world")
    bias = {str(token): 100}
    assert chat(server, max_tokens=1, logit_bias=bias)[1]["choices"][0]["message"]["content"] == " world"


@pytest.mark.parametrize(
    "messages, more, named",
    [
        (TALK[:1], {}, "the last message must be the assistant's"),
        ([TALK[0], {"role": "assistant", "content": " \n"}], {}, "the last message must be the assistant's"),
        (TALK, {"tools": [TOOL]}, "can neither call tools"),
        (TALK, {"response_format": {"type": "json_object"}}, "nor be held to a response_format"),
        (TALK, {"add_generation_prompt": True}, "add_generation_prompt is true, and false beside"),
        (TALK, {"continue_final_message": None, "add_generation_prompt": False}, "add_generation_prompt"),
    ],
)  # fmt: skip
def test_what_cannot_go_on_is_said(server: Any, messages: Any, more: dict[str, Any], named: str) -> None:
    status, reply = chat(server, messages, **more)
    assert status == 400 and named in reply["error"]["message"], reply
    assert reply["error"]["param"] in ("continue_final_message", "add_generation_prompt")


def test_a_tool_that_may_not_be_called_does_not_stand_in_the_way(server: Any) -> None:
    assert chat(server, tools=[TOOL], tool_choice="none")[0] == 200


def test_a_model_that_thinks_first_is_not_begun_for(thinker: Any) -> None:
    status, reply, _ = thinker.ask("POST", MESSAGES, {"messages": TALK, "max_tokens": 20})
    assert status == 400 and reply["error"]["message"].startswith("messages: this model thinks"), json.dumps(reply)
