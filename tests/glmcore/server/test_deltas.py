"""Text to deltas: what is a tool call, what is not, and that nothing depends on how the text was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.chat import process_response
from glmcore.chat.messages import Call
from glmcore.server.deltas import NEXT_MESSAGE, Deltas

TOOLS = ("get_weather", "get_time")
V3 = "get_weather\n ```python\ntool_call(city='北京', days=3)\n```"
GLM4 = 'get_weather\n{"city": "北京", "days": 3}'
CALL = Call("get_weather", {"city": "北京", "days": 3})


def deltas(pieces: list[str], generation: str, tools: tuple[str, ...] = TOOLS) -> list[str | Call]:
    """The deltas of a text in pieces, texts in a row joined."""
    taken = Deltas(generation, tools)
    found = [delta for piece in pieces for delta in taken.push(piece)] + taken.finish()
    joined: list[str | Call] = []
    for delta in found:
        assert delta != ""
        if isinstance(delta, str) and joined and isinstance(joined[-1], str):
            joined[-1] += delta
        else:
            joined.append(delta)
    assert taken.calls == sum(isinstance(delta, Call) for delta in joined)
    return joined


@pytest.mark.parametrize(
    "text, generation, wanted",
    [
        (V3, "v3", [CALL]),
        (GLM4, "glm4", [CALL]),
        ("\n 今天晴。 ", "v3", ["今天晴。"]),
        (f"\n我查一下。{NEXT_MESSAGE}{V3}", "v3", ["我查一下。", CALL]),
        (f"{GLM4}{NEXT_MESSAGE}get_time\n{{}}", "glm4", [CALL, Call("get_time", {})]),
        (f"\none{NEXT_MESSAGE}\ntwo", "glm4", ["one\ntwo"]),
        ('Result\n{"a": 1}', "glm4", ['Result\n{"a": 1}']),  # no tool of that name was offered
        ("get_weather\n{cut off", "glm4", ["get_weather\n{cut off"]),
        ("get_weather\n[1]", "glm4", ["get_weather\n[1]"]),
        ('get_weather\n{"x": NaN}', "glm4", ['get_weather\n{"x": NaN}']),  # no JSON, whatever Python says
        ("get_weather\n```\ntool_call(x=b'1')\n```", "v3", ["get_weather\n```\ntool_call(x=b'1')\n```"]),
        ("get_weather\n```\ntool_call(x=exit())\n```", "v3", ["get_weather\n```\ntool_call(x=exit())\n```"]),
        ("get", "glm4", ["get"]),
        ("", "v3", []),
    ],
)
def test_calls_and_texts(text: str, generation: str, wanted: list[str | Call]) -> None:
    assert deltas([text], generation) == wanted
    assert deltas(list(text), generation) == wanted


def test_text_passes_as_soon_as_it_cannot_be_a_call() -> None:
    taken = Deltas("glm4", TOOLS)
    assert taken.push("get_") == []
    assert taken.push("lost, he said") == ["get_lost, he said"]
    assert taken.push(" <|assis") == []
    assert taken.push("tant of mine") == [" <|assistant of mine"]


@given(
    text=st.text(alphabet=" \n{}\"':1a好get_weather<|assistant|>", max_size=60),
    cuts=st.lists(st.integers(0, 60)),
    generation=st.sampled_from(["v1", "v2", "v3", "glm4"]),
    offered=st.booleans(),
)
def test_cutting_changes_nothing(text: str, cuts: list[int], generation: str, offered: bool) -> None:
    tools = TOOLS if offered and generation in ("v3", "glm4") else ()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert deltas(pieces, generation, tools) == deltas([text], generation, tools)


@given(st.text(alphabet=" \n,!年好ab[训练时间]", max_size=40), st.sampled_from(["v1", "v2"]))
def test_without_tools_the_text_is_the_originals(text: str, generation: str) -> None:
    assert "".join(map(str, deltas([text], generation, ()))) == process_response(text, generation)
