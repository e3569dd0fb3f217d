"""The throughput block against the document's own printed figures, and its arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.compiled.throughput import Throughput

# As the document prints them for one answer of 244 tokens, whose prompt went through the base model in three rounds.
PRINTED = """============================================
base infer time: 0.412792 (s)
base throughput: 7.268 (tokens/s)
incremental infer time: 6.683958 (s)
incremental throughput: 36.356 (tokens/s)
infer time: 7.096750 (s)
infer tokens: 244
average throughput: 34.382 (tokens/s)
============================================"""
EXAMPLE = Throughput(rows=1, rounds=3, prompt_tokens=700, tokens=244, base_s=0.412792, incremental_s=6.683958)


def test_the_documents_figures_follow_from_its_times() -> None:
    """But for one digit: 0.412792 + 6.683958 is 7.096750, and it prints 7.096751 of times with more digits."""
    block, prompt, decode = EXAMPLE.text().rpartition("\nprompt")[0], *EXAMPLE.text().splitlines()[-2:]
    assert block == PRINTED
    assert prompt == f"prompt tokens/s: {700 / 0.412792:.3f}" and decode == "decode tokens/s: 36.356"


def test_the_first_token_is_the_base_models_whatever_the_rounds() -> None:
    """Were the three rounds taken for three of the 244 tokens, the incremental model would have had 241."""
    assert EXAMPLE.incremental_throughput == pytest.approx(243 / 6.683958)
    assert round(241 / 6.683958, 3) == 36.056


@given(
    st.integers(1, 64), st.integers(1, 8), st.lists(st.integers(1, 500), min_size=1, max_size=16),
    st.floats(1e-6, 1e5), st.floats(1e-6, 1e5),
)  # fmt: skip
def test_rates_times_seconds_are_the_counts(rounds, base_length, answers, base_s, incremental_s) -> None:
    rows = len(answers)
    made = Throughput(rows, rounds, rounds * base_length, sum(answers), base_s, incremental_s)
    assert made.base_throughput * base_s == pytest.approx(rounds)
    assert made.incremental_throughput * incremental_s == pytest.approx(sum(answers) - rows)
    assert made.average_throughput * (base_s + incremental_s) == pytest.approx(sum(answers))
    assert made.prompt_tokens_per_s * base_s == pytest.approx(made.prompt_tokens)
    assert made.to_json()["decode_tokens_per_s"] == made.incremental_throughput


def test_answers_of_one_token_have_no_incremental_rate() -> None:
    assert "incremental throughput: 0.000 (tokens/s)" in Throughput(2, 1, 10, 2, 0.5, 0.0).text()
