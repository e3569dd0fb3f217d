"""Decoding id by id: never half a character, and in the end what decoding all ids gives."""

from __future__ import annotations

import time
from functools import cache

import pytest
from golden_cases import rest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glmcore.chat.incremental import CLEAN_UP, Detokenizer, Replacements, clean_up
from glmcore.tokenizers import Tokenizer, load_tokenizer

GENERATIONS = ("v1", "v2", "v3", "glm4")
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.text("你好，世界𠮷。 \t\n<>|nblak_2'.,!?s", max_size=20),
        st.sampled_from([FAMILY, "👍🏽", "  ", "<n>", "<|blank_2|>", "<|user|>", "[MASK]", " n't", " ' s"]),
    ),
    max_size=6,
).map("".join)


@cache
def load(generation: str) -> Tokenizer:
    return load_tokenizer(rest(generation, "tokenizer"), generation)


def stream(tokenizer: Tokenizer, ids: list[int], skip: bool) -> list[str]:
    detokenizer = Detokenizer(tokenizer, skip)
    return [*map(detokenizer.push, ids), detokenizer.flush()]


@pytest.mark.parametrize("generation", GENERATIONS)
@given(text=TEXTS, skip=st.booleans())
@settings(max_examples=80)
def test_pieces_of_real_text_join_to_the_full_decode(generation: str, text: str, skip: bool) -> None:
    tokenizer = load(generation)
    ids = tokenizer.encode(text)
    pieces = stream(tokenizer, ids, skip)
    assert "".join(pieces) == tokenizer.decode(ids, skip)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("generation", GENERATIONS)
@given(data=st.data(), skip=st.booleans())
@settings(max_examples=80)
def test_pieces_of_any_ids_join_to_the_full_decode(generation: str, data: st.DataObject, skip: bool) -> None:
    tokenizer = load(generation)
    some_bytes = tokenizer.encode("😂\x01\u0e5c𡃁 ▁")
    id_ = st.one_of(
        st.integers(0, len(tokenizer) - 1),
        st.sampled_from(some_bytes),
        st.sampled_from(sorted(tokenizer.special.values())),
    )
    ids = data.draw(st.lists(id_, max_size=25))
    assert "".join(stream(tokenizer, ids, skip)) == tokenizer.decode(ids, skip)


@example([" ' ' ", "' "])
@given(st.lists(st.text(" .,'nmst!ver", max_size=6), max_size=8))
def test_replacing_in_pieces_is_replacing_in_the_whole(pieces: list[str]) -> None:
    replacements = Replacements(CLEAN_UP)
    assert "".join([*map(replacements.push, pieces), replacements.flush()]) == clean_up("".join(pieces))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_ids_beyond_the_vocabulary_have_no_text(generation: str) -> None:
    tokenizer = load(generation)
    beyond = [len(tokenizer), len(tokenizer) + 180]
    ids = tokenizer.encode("你好")
    assert "".join(stream(tokenizer, [*beyond, *ids, *beyond], True)) == "你好"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_long_answer_costs_the_same_per_token(generation: str) -> None:
    tokenizer = load(generation)
    ids = tokenizer.encode("你好，世界 hello 😂\n") * 400
    stream(tokenizer, ids, True)
    started = time.perf_counter()
    stream(tokenizer, ids, True)
    assert (time.perf_counter() - started) / len(ids) < 200e-6
