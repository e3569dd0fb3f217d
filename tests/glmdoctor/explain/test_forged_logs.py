"""Logs made to be slow: time grows with their length, whatever they hold."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.explain import book, explain
from glmdoctor.explain.pages import PAGE
from glmdoctor.explain.signatures import WORD, Pattern
from glmdoctor.explain.wanted import MOST, REFILL, SEARCH

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


def torn(number: int) -> str:
    """All pieces of all signatures without their last letters, in any order: they look likely, none fits."""
    pieces = [piece[:-1] for piece in PIECES if len(piece) > 4]
    random.Random(number).shuffle(pieces)
    return f"{number} " + " ".join(pieces) + "\n"


def ordinary(start: int, size: int) -> Iterator[str]:
    return (f"{start + n} step {n} of the training is done, all is well\n" for n in range(size // 50))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The places found by each search through a page."""
    made: list[int] = []
    whole = Pattern.starts

    def counted(pattern: Pattern, page: object) -> list[int]:
        starts = whole(pattern, page)  # type: ignore[arg-type]
        made.append(len(starts))
        return starts

    monkeypatch.setattr(Pattern, "starts", counted)
    return made


def test_what_is_spent_on_torn_signatures_has_a_bound(searches: list[int]) -> None:
    log = "".join(map(torn, range(6 * MOST // (SEARCH * len(PIECES))))).encode()
    explain(io.BytesIO(log))
    pages = 2 + len(log) // PAGE
    last_pages = 5 * len(book().patterns) * SEARCH
    assert SEARCH * len(searches) + sum(searches) <= MOST + REFILL * pages + last_pages


def test_an_error_behind_a_forged_part_is_found_and_one_at_its_end() -> None:
    forged = "".join(map(torn, range(120)))
    error = "RuntimeError: Library cuda is not initialized\n"
    behind = [*ordinary(0, 40 * PAGE), error, *ordinary(10**6, 10 * PAGE)]
    for log in (forged + "".join(behind), forged + error):
        assert explain(io.BytesIO(log.encode())).matches[0].problem == "libcuda-not-in-cuda-path"
