"""What each token writes: the bytes of tokens join to the text, of every tokenizer; forced text is tokenised so."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

import pytest
from family_tokenizer import write
from golden_cases import rest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glmcore.grammar.vocabulary import Verbatim, Vocabulary
from glmcore.tokenizers import Tokenizer, load_tokenizer

llguidance = pytest.importorskip("llguidance")
GENERATIONS = ("v1", "v2", "v3", "glm4", "glm4-0414", "demo")
DEMO = Path(__file__).parents[3] / "glmcore" / "demo" / "model"
TEXTS = st.lists(
    st.one_of(
        st.text("你好，世界。 \t\n<>|nblak_2'.,!?s{}[]\":0123e-", max_size=20),
        st.sampled_from(["  ", " " * 90, "<n>", "<|blank_2|>", "<|user|>", "[MASK]", " n't", ' "a": ', '="', "```"]),
    ),
    max_size=6,
).map("".join)


@cache
def load(generation: str) -> Tokenizer:
    if generation == "demo":
        return load_tokenizer(DEMO, "v2")
    if generation == "glm4-0414":
        import tempfile

        return load_tokenizer(write(Path(tempfile.mkdtemp())), generation)
    return load_tokenizer(rest(generation, "tokenizer"), generation)


def spelled(tokenizer: Tokenizer, ids: list[int]) -> str:
    stream = Verbatim(tokenizer)
    return "".join(map(stream.push, ids)) + stream.flush()


@pytest.mark.parametrize("generation", GENERATIONS)
@given(text=TEXTS)
@example("")
@example(" a")
@example("\na  b\t.")
@settings(max_examples=60)
def test_the_bytes_of_tokens_join_to_the_text(generation: str, text: str) -> None:
    """To the blank, behind other text: nothing is put before it and nothing mended.

    ChatGLM-6B's tokenizer takes its own markers out of a text, and writes wide punctuation in half width.
    """
    tokenizer = load(generation)
    wanted = text
    if generation == "v1":
        wanted = unicodedata.normalize("NFKC", text.replace("<n>", "\n").replace("<|blank_2|>", "  "))
    assert spelled(tokenizer, tokenizer.encode_within(text)) == wanted


@pytest.mark.parametrize("generation", GENERATIONS)
def test_special_tokens_write_nothing_and_may_not_stand_in_a_text(generation: str) -> None:
    tokenizer = load(generation)
    vocabulary = Vocabulary(tokenizer, len(tokenizer) + 7)
    assert len(vocabulary.tokens) == len(tokenizer) + 7 and vocabulary.tokens[-1] == b""
    assert set(tokenizer.stop_ids) <= set(vocabulary.special_token_ids)
    made = llguidance.LLTokenizer(llguidance.TokenizerWrapper(vocabulary), n_vocab=len(tokenizer) + 7)
    matcher = llguidance.LLMatcher(made, llguidance.LLMatcher.grammar_from_lark("start: /(?s:.*)/"))
    mask = matcher.compute_logit_bias()
    assert not any(mask[index] for index in vocabulary.special_token_ids if index not in (vocabulary.eos_token_id,))
    assert not any(mask[len(tokenizer):])
    assert sum(map(bool, mask)) > 0.5 * sum(map(bool, vocabulary.tokens))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_what_is_forced_is_tokenised_as_the_tokenizer_does(generation: str) -> None:
    tokenizer = load(generation)
    made = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Vocabulary(tokenizer, len(tokenizer))))
    for text in ('{"name": "北京", "x": [1, 2]}', '="a"', "a.b", ' {\n    "a": 1}'):
        assert made.tokenize_str(text) == tokenizer.encode_within(text)
        assert made.decode_str(made.tokenize_str(text)) == text
