"""Ids, texts and prompts of the original tokenizers."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from golden_cases import rest

from glmcore.chat.messages import from_pairs
from glmcore.errors import GlmError
from glmcore.tokenizers import Tokenizer, load_tokenizer

GENERATIONS = ("v1", "v2", "v3", "glm4")
READING = ("v1", "glm4")  # whose originals read special tokens out of any text; the others do as ours by default


def golden(generation: str, name: str) -> Any:
    return json.loads((rest(generation, "tokenizer") / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=GENERATIONS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(rest(request.param, "tokenizer"), request.param)


def test_ids(tokenizer: Tokenizer) -> None:
    original = tokenizer.generation in READING
    for case in golden(tokenizer.generation, "encode")["cases"]:
        assert tokenizer.encode(case["text"], parse_special=original) == case["ids"], case["text"]
        framed = tokenizer.encode(case["text"], add_special_tokens=True, parse_special=original)
        assert framed == case["ids_with_special"], case["text"]


def test_role_tokens_are_read_on_request() -> None:
    tokenizer = load_tokenizer(rest("v3", "tokenizer"), "v3")
    for case in golden("v3", "encode")["cases"]:
        assert tokenizer.encode(case["text"], parse_special=True) == case["ids_encode_special_tokens"], case["text"]


def test_decoding(tokenizer: Tokenizer) -> None:
    for case in golden(tokenizer.generation, "encode")["cases"]:
        assert tokenizer.decode(case["ids"], skip_special_tokens=False) == case["decoded"], case
        assert tokenizer.decode(case["ids_with_special"], skip_special_tokens=False) == case["decoded_with_special"], (
            case
        )
        assert tokenizer.decode(case["ids_with_special"]) == case["decoded_skip_special"], case


def test_decoding_odd_ids(tokenizer: Tokenizer) -> None:
    for case in golden(tokenizer.generation, "encode")["decode"]:
        if "error" in case:
            with pytest.raises(GlmError, match="130527"):
                tokenizer.decode(case["ids"], case["skip_special_tokens"])
        else:
            assert tokenizer.decode(case["ids"], case["skip_special_tokens"]) == case["text"], case


def test_special_tokens(tokenizer: Tokenizer) -> None:
    meta = golden(tokenizer.generation, "encode")["meta"]
    assert tokenizer.vocab_size == meta["vocab_size"]
    assert len(tokenizer) == meta["len"]
    assert tokenizer.pad_token_id == meta["pad_token_id"]
    assert tokenizer.eos_token_ids[0] == meta["eos_token_id"]
    named = {name: index for name, index in meta["special_tokens"].items() if name in tokenizer.special}
    assert len(named) >= 5
    assert named == {name: tokenizer.special[name] for name in named}


def test_spelling(tokenizer: Tokenizer) -> None:
    for case in golden(tokenizer.generation, "encode")["cases"]:
        for index, spelling in zip(case["ids"], case.get("tokens", ()), strict=False):
            assert tokenizer.token(index) == spelling
            assert tokenizer.index(spelling) == index or not spelling


def test_bytes_join_to_the_text(tokenizer: Tokenizer) -> None:
    for text in ("hello world, 你好 北京 👋🏽", "a\n\n\tb    c", "def f(x):\n    return x"):
        joined = b"".join(map(tokenizer.bytes_of, tokenizer.encode(text))).decode("utf-8")
        assert joined.removeprefix(" ") == tokenizer.decode(tokenizer.encode(text))
    for name, index in tokenizer.special.items():
        assert tokenizer.bytes_of(index) == name.encode()
    assert all(tokenizer.bytes_of(index) for index in tokenizer.eos_token_ids)
    assert tokenizer.bytes_of(10**6) == b""


def test_spelling_is_reversible(tokenizer: Tokenizer) -> None:
    vocabulary = tokenizer.vocabulary
    assert sorted(vocabulary.values()) == list(range(len(tokenizer)))
    for name, index in list(vocabulary.items())[::97]:
        assert tokenizer.index(name) == index
        # ChatGLM2 and 3 keep some tokens silent.
        assert tokenizer.token(index) in (name, "")


def messages_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    history = case["history"] or []
    if "role" not in case:
        return list(from_pairs(history, case["query"]))
    return [*history, {"role": case["role"], "content": case["query"]}]


def test_chat_prompts(tokenizer: Tokenizer) -> None:
    original = tokenizer.generation in READING
    for case in golden(tokenizer.generation, "chat"):
        messages = messages_of(case)
        before = json.dumps(messages)
        ids = tokenizer.apply_chat_template(messages, parse_special=original)
        assert ids == case["inputs"]["input_ids"][0], case["query"]
        assert json.dumps(messages) == before


def test_stop_ids_are_those_of_the_original(tokenizer: Tokenizer) -> None:
    kwargs = golden(tokenizer.generation, "chat")[0]["generate_kwargs"]
    expected = kwargs.get("eos_token_id", [golden(tokenizer.generation, "encode")["meta"]["eos_token_id"]])
    assert sorted(tokenizer.stop_ids) == sorted(expected)


def test_v2_prompts() -> None:
    tokenizer = load_tokenizer(rest("v2", "tokenizer"), "v2")
    for case in golden("v2", "extra")["build_prompt"]:
        ids = tokenizer.apply_chat_template(from_pairs(case["history"] or [], case["query"]))
        assert ids == tokenizer.encode(case["prompt"], add_special_tokens=True)


def test_v3_single_roles() -> None:
    tokenizer = load_tokenizer(rest("v3", "tokenizer"), "v3")
    extra = golden("v3", "extra")
    for case in extra["build_chat_input_with_role_only"]:
        assert tokenizer.apply_chat_template([{"role": case["role"], "content": case["query"]}]) == case["input_ids"][0]
    for case in extra["build_single_message"]:
        message = {"role": case["role"], "content": case["message"], "metadata": case["metadata"]}
        ids = tokenizer.apply_chat_template([message], add_generation_prompt=False)
        assert ids == tokenizer.frame(case["ids"])


def test_glm4_template() -> None:
    tokenizer = load_tokenizer(rest("glm4", "tokenizer"), "glm4")
    extra = golden("glm4", "extra")
    for case in extra["apply_chat_template"]:
        ids = tokenizer.apply_chat_template(case["conversation"], add_generation_prompt=case["add_generation_prompt"])
        assert ids == case["ids"]
    with_tools = extra["apply_chat_template"][-1]
    lead, *others = with_tools["conversation"]
    assert tokenizer.apply_chat_template(others, tools=lead["tools"]) == with_tools["ids"]


def test_a_megabyte_takes_less_than_a_second(tokenizer: Tokenizer) -> None:
    texts = "".join(case["text"] for case in golden(tokenizer.generation, "encode")["cases"])
    megabyte = texts * (1_000_000 // len(texts.encode()) + 1)
    started = time.process_time()
    ids = tokenizer.encode(megabyte)
    assert time.process_time() - started < 1
    assert len(ids) > 100_000
