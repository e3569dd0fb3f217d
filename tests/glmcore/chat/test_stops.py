"""Stop tokens and stop texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.chat.stops import StopMatcher, drop_stop


def run(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    matcher = StopMatcher(stops)
    text = "".join([*map(matcher.push, pieces), matcher.flush()])
    return text, matcher.stopped


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "stopped"),
    [
        (["Hello wor", "ld"], [], "Hello world", False),
        (["Hello STOP more"], ["STOP"], "Hello ", True),
        (["Hello S", "T", "OP more", "and more"], ["STOP"], "Hello ", True),
        (["Hello ST", "ART"], ["STOP"], "Hello START", False),
        (["aa", "ab"], ["aab"], "a", True),
        (["你好\n\n", "用户："], ["\n\n用户", "用户："], "你好", True),
        (["x", ""], [""], "x", False),
        (["ends with ST"], ["STOP"], "ends with ST", False),
    ],
)
def test_stop_texts(pieces: list[str], stops: list[str], text: str, stopped: bool) -> None:
    assert run(pieces, stops) == (text, stopped)


def test_one_stop_text_may_be_given_alone() -> None:
    assert StopMatcher("ab").push("xaby") == "x"


@pytest.mark.parametrize(
    ("pieces", "stops", "text"),
    [
        (["Hello S", "T", "OP more", "and more"], ["STOP"], "Hello STOP"),
        (["你好\n\n", "用户："], ["\n\n用户", "用户："], "你好\n\n用户"),
        (["abcd"], ["bcd", "bc"], "abc"),
        (["ends with ST"], ["STOP"], "ends with ST"),
    ],
)
def test_a_stop_text_may_be_kept(pieces: list[str], stops: list[str], text: str) -> None:
    matcher = StopMatcher(stops, keeps=True)
    assert "".join([*map(matcher.push, pieces), matcher.flush()]) == text


def test_what_may_begin_a_stop_text_waits() -> None:
    matcher = StopMatcher(["<end>"])
    assert [matcher.push(piece) for piece in ("a<", "e", "x", "<end", ">")] == ["a", "", "<ex", "", ""]
    assert matcher.stopped


PIECES = st.lists(st.text("abc", max_size=4), max_size=8)


@given(PIECES, st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_where_a_stop_text_begins(pieces: list[str], stops: list[str]) -> None:
    text, stopped = run(pieces, stops)
    whole = "".join(pieces)
    assert whole.startswith(text)
    assert stopped == any(stop in whole for stop in stops)
    if stopped:
        assert any(whole[len(text) :].startswith(stop) for stop in stops)
    else:
        assert text == whole


def test_only_a_stop_token_is_dropped() -> None:
    assert drop_stop([5, 7, 2], {2}) == [5, 7]
    assert drop_stop([5, 7], {2}) == [5, 7]
    assert drop_stop([], {2}) == []
