"""tokenizer.json against transformers' own reading of the same file."""

from __future__ import annotations

import json

import family_tokenizer
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from glmcore.chat.incremental import Detokenizer
from glmcore.errors import GlmError
from glmcore.tokenizers import load_tokenizer

TEXTS = ("", "Hello, world!", "北京 12345 天气", "a  b\n\n c\t", "😀👍🏽", "don't  I'll", "\u0000\uffff", "x" * 5000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return family_tokenizer.write(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def ours(folder):
    return load_tokenizer(folder, "glm4-0414")


@pytest.fixture(scope="module")
def theirs(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("framed", [True, False])
def test_ids_are_those_of_transformers(ours, theirs, text, framed):
    assert ours.encode(text, add_special_tokens=framed) == theirs.encode(text, add_special_tokens=framed)


@given(text=st.text(max_size=60))
def test_any_text_comes_back_whole_and_as_in_transformers(ours, theirs, text):
    assume(not any(name in text for name in ours.special))
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids) == text


@given(text=st.text(max_size=60))
def test_bytes_join_to_the_text(ours, text):
    assert b"".join(map(ours.bytes_of, ours.encode(text))).decode("utf-8") == text


def test_names_of_special_tokens_are_text_unless_they_are_asked_for(ours, theirs):
    text = "a<|user|>\nb[gMASK]<sop>c"
    assert not set(ours.special.values()) & set(ours.encode(text))
    assert ours.decode(ours.encode(text)) == text
    assert ours.encode(text, parse_special=True) == theirs.encode(text, add_special_tokens=False)


@given(picks=st.lists(st.integers(0, 399), max_size=40), skip=st.booleans())
def test_streamed_pieces_join_to_the_decoded_text(ours, theirs, picks, skip):
    stream = Detokenizer(ours, skip)
    text = "".join(map(stream.push, picks)) + stream.flush()
    assert text == ours.decode(picks, skip) == theirs.decode(picks, skip_special_tokens=skip)


def test_the_vocabulary_counts_its_special_tokens(ours, theirs):
    assert len(ours) == len(theirs)
    assert [ours.index(ours.token(index)) for index in range(len(ours))] == list(range(len(ours)))
    assert ours.eos_token_ids == tuple(ours.special[name] for name in ("<|endoftext|>", "<|user|>", "<|observation|>"))


def test_a_lone_surrogate_breaks_nothing(ours):
    assert "a" in ours.decode(ours.encode("a\ud800b"))


def refusal(folder, generation="glm4-0414") -> str:
    with pytest.raises(GlmError) as caught:
        load_tokenizer(folder, generation)
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "tokenizer-damaged"), (b"{", "tokenizer-damaged"), (b"{}", "tokenizer-damaged"),
     (b"[1]", "tokenizer-damaged"), (b"<html>", "tokenizer-damaged"),
     (b"version https://git-lfs.github.com/spec/v1\n", "checkpoint-lfs-pointer")],
)  # fmt: skip
def test_damaged_files_are_one_line(tmp_path, content, code):
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert refusal(tmp_path) == code


def test_missing_and_foreign_files_are_one_line(tmp_path, folder):
    assert refusal(tmp_path) == "tokenizer-missing"
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\n")
    assert refusal(tmp_path) == "tokenizer-mismatch"
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != "<|user|>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    assert refusal(tmp_path) in ("tokenizer-mismatch", "tokenizer-damaged")


def test_edge_is_framed_by_nothing(tmp_path):
    edge = load_tokenizer(family_tokenizer.write(tmp_path, framed=False), "glm-edge")
    assert edge.frame([1, 2]) == [1, 2] and edge.head == ""
