"""An answer cleaned piece by piece is the answer cleaned at the end."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmcore.chat import process_response
from glmcore.chat.answer import AnswerStream
from glmcore.chat.responses import clean_text

pieces = st.lists(
    st.text(st.sampled_from(list(" \n\tab中文,!:;?[]训练时间👋")), max_size=6) | st.just("[[训练时间]]"), max_size=12
)


@pytest.mark.parametrize("generation", ["v1", "v2", "v3", "glm4"])
@given(pieces=pieces)
@example(pieces=["好", ",", "", "a"])
@example(pieces=[",", "好", " ", ",", " \n"])
def test_join_of_the_pieces_is_the_processed_response(generation: str, pieces: list[str]) -> None:
    stream = AnswerStream(generation)
    joined = "".join([*map(stream.push, pieces), stream.flush()])
    assert joined == process_response("".join(pieces), generation)
    assert joined == clean_text("".join(pieces), generation)


def test_ordinary_text_is_not_held_back() -> None:
    stream = AnswerStream("v2")
    assert [stream.push(piece) for piece in (" ", "你", "好", " ", "a")] == ["", "你", "好", "", " a"]
