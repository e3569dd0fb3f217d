"""From text to text on the original's own answers."""

from __future__ import annotations

import json
import shutil

import pytest
from golden_cases import REST, needs_rest

import glmcore
from glmcore.engine.sampling import Sampling

pytestmark = needs_rest


@pytest.fixture(scope="module", params=["v1", "v2", "v3", "glm4"])
def engine_and_cases(request, tmp_path_factory):
    """The tiny model with the real vocabulary and its tokenizer in one folder, as a checkpoint has them."""
    folder = tmp_path_factory.mktemp(request.param)
    for source in (*(REST / request.param / "e2e").iterdir(), *(REST / request.param / "tokenizer").iterdir()):
        shutil.copy(source, folder / source.name)
    return glmcore.load(folder, dtype="float32"), json.loads((folder / "chat_greedy.json").read_text(encoding="utf-8"))


def tokens_of(engine, prompt: list[int], count: int) -> list[int]:
    answer = engine.submit(prompt, max_new_tokens=count, sampling=Sampling(temperature=0))
    return [piece.token for piece in answer if piece.token is not None]


def messages_of(case: dict, generation: str) -> list[dict]:
    history = case["history"] or []
    if generation in ("v1", "v2"):
        pairs = [[("user", query), ("assistant", answer)] for query, answer in history]
        turns = [{"role": role, "content": text} for pair in pairs for role, text in pair]
    else:
        turns = list(history)
    return [*turns, {"role": case.get("role", "user"), "content": case["query"]}]


def test_greedy_chat_gives_the_original_answers(engine_and_cases):
    engine, cases = engine_and_cases
    for case in cases:
        prompt = case["input_ids"][0]
        budget = case["max_length"] - len(prompt)
        tokens = tokens_of(engine, prompt, budget)
        wanted = case["output_ids"][0][len(prompt) :]
        assert tokens == wanted[: len(tokens)] and len(wanted) - len(tokens) == case["stopped_by_eos"], case["query"]


def test_chat_text_and_stream_agree_with_the_original(engine_and_cases):
    engine, cases = engine_and_cases
    for case in cases:
        if isinstance(case["response"], str) and case["stopped_by_eos"]:
            messages = messages_of(case, engine.config.generation)
            before = json.dumps(messages)
            settings = {"max_new_tokens": case["max_length"] - len(case["input_ids"][0]), "temperature": 0}
            assert engine.chat(messages, **settings) == case["response"]
            assert "".join(engine.stream(messages, **settings)) == case["response"]
            assert json.dumps(messages) == before


def test_second_turn_reuses_the_cache_and_answers_the_same(engine_and_cases):
    engine, cases = engine_and_cases
    question = cases[0]["input_ids"][0]
    prompt = [*question[2:6] * 40, *question]  # modules read in pieces, and only whole ones are to the bit the same
    fresh = tokens_of(engine, prompt, 8)
    longer = [*prompt, *fresh, *question]
    again = tokens_of(engine, longer, 8)
    reused = engine.stats.reused_tokens
    engine.placed()
    assert tokens_of(engine, longer, 8) == again
    pieces = len(prompt) // engine.runner.way.grid
    assert pieces and reused == (0 if engine.config.generation == "v1" else pieces * engine.runner.way.grid)
