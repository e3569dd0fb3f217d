"""Our prompts of the family against their Jinja templates, rendered and tokenised by transformers."""

from __future__ import annotations

import json

import family_tokenizer
import pytest
from family_templates import TEMPLATES
from transformers import AutoTokenizer

from glmcore.chat.plain_tools import HEAD
from glmcore.tokenizers import load_tokenizer

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "天气", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}  # fmt: skip
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {}}}
QUESTION = {"role": "user", "content": "北京天气？ <|user|> [gMASK]"}
TALK = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"}, QUESTION,
]  # fmt: skip
CALLED = [
    QUESTION, {"role": "assistant", "metadata": "get_weather", "content": '{"city": "北京"}'},
    {"role": "observation", "content": '{"sky": "clear"}'}, {"role": "assistant", "content": "Clear."},
    {"role": "user", "content": "Thanks"}, {"role": "system", "content": "A late instruction."},
]  # fmt: skip
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nClear. "}
THOUGHT = [QUESTION, ANSWER, {"role": "user", "content": "ok"}]


@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def pair(request, tmp_path_factory):
    folder = family_tokenizer.write(tmp_path_factory.mktemp(request.param), framed=request.param != "glm-edge")
    return load_tokenizer(folder, request.param), AutoTokenizer.from_pretrained(folder), TEMPLATES[request.param]


def same(pair, messages, tools=None, open_answer=True) -> None:
    ours, theirs, template = pair
    settings = {"chat_template": template, "tools": tools, "add_generation_prompt": open_answer}
    text = theirs.apply_chat_template(messages, tokenize=False, **settings)
    assert ours.prompt_text(messages, tools, open_answer) == text
    ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **settings)
    assert ours.apply_chat_template(messages, tools, open_answer, parse_special=True) == ids


@pytest.mark.parametrize("messages", [[QUESTION], TALK, TALK[:2]])
@pytest.mark.parametrize("open_answer", [True, False])
def test_a_conversation(pair, messages, open_answer):
    same(pair, messages, open_answer=open_answer)


@pytest.mark.parametrize("tools", [[WEATHER], [WEATHER, CLOCK], [WEATHER["function"]]])
@pytest.mark.parametrize("messages", [TALK, CALLED])
def test_tools_calls_and_observations(pair, messages, tools):
    if pair[0].generation == "glm-edge":
        text = pair[0].prompt_text(messages, tools=tools)
        assert HEAD in text and '"name": "get_weather"' in text and "<|observation|>" not in text
    else:
        same(pair, messages, tools)


def test_a_thought_is_not_fed_back(pair):
    if pair[0].generation == "glm-z1":
        same(pair, THOUGHT)
        assert "hm" not in pair[0].prompt_text(THOUGHT)


def test_calls_in_openais_form_are_the_same_prompt(pair):
    if pair[0].generation == "glm-edge":
        return
    call = {"type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": "北京"})}}
    openai = [QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]},
              {"role": "tool", "content": '{"sky": "clear"}'}, *CALLED[3:]]  # fmt: skip
    assert pair[0].prompt_text(openai, [WEATHER]) == pair[0].prompt_text(CALLED, [WEATHER])


def test_what_looks_like_a_role_in_a_text_stays_text(pair):
    ids = pair[0].apply_chat_template([QUESTION])
    assert ids.count(pair[0].special["<|user|>"]) == 1
