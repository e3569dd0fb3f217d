"""Logs made to be slow: time grows with their length, whatever they hold."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.explain import book, explain
from glmdoctor.explain.signatures import WORD

SIZE = 1 << 18  # four pages
SECONDS = 1.5  # a page that makes every pattern search costs some 30 ms
PIECES = sorted({piece for pattern in book().patterns for piece in pattern.pieces if piece.strip()})
WORDS = sorted({word for piece in PIECES for word in WORD.findall(piece)})
MARKS = ["\x1b[", "\x1b]", "\\u001b[", "\\u4e2d", '{"', "\\n", "\\'", "  ", "│", ">", "\r", "\t", "^[[", "“", "0" * 99]
JOINTS = ["", " ", "\n", "\r\n", " x " * 90, "错"]


def seconds(text: str) -> float:
    data = (text * (SIZE // max(1, len(text.encode())) + 1)).encode()[:SIZE]
    start = time.process_time()
    explain(io.BytesIO(data))
    return time.process_time() - start


@settings(max_examples=60)
@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(MARKS), min_size=1, max_size=12), st.sampled_from(JOINTS))
def test_signatures_in_pieces_and_marks_of_terminals(parts: list[str], joint: str) -> None:
    assert seconds(joint.join(parts) + joint) < SECONDS


@pytest.mark.parametrize("mark", MARKS)
def test_one_mark_without_an_end(mark: str) -> None:
    assert seconds(mark) < SECONDS
    assert seconds(mark + "0" * SIZE) < SECONDS


@pytest.mark.parametrize("joint", ["\n", " "])
def test_all_words_on_every_page(joint: str) -> None:
    assert seconds(joint.join(WORDS)) < SECONDS


def test_twice_the_length_takes_twice_the_time_and_no_more() -> None:
    page = " ".join(WORDS) + "\n"
    lines = [f"{n} {page}" for n in range(2 * SIZE // len(page))]  # no line comes twice
    times = []
    for count in (len(lines) // 2, len(lines)):
        start = time.process_time()
        explain(io.BytesIO("".join(lines[:count]).encode()))
        times.append(time.process_time() - start)
    assert times[1] < 4 * times[0] + 0.2
