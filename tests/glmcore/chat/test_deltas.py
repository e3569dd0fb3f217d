"""Text to deltas: what is a tool call, what is not, how its arguments come, and that nothing depends on the cuts."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.chat import process_response
from glmcore.chat.calls import Arguments, Calling
from glmcore.chat.deltas import NEXT_MESSAGE, Delta, Deltas

TOOLS = ("get_weather", "get_time")
V3 = 'get_weather\n ```python\ntool_call(city="北京", days=3)\n```'
GLM4 = 'get_weather\n{"city": "北京", "days": 3}'
CALL = [Calling("get_weather"), Arguments('{"city": "北京", "days": 3}')]


def deltas(pieces: list[str], generation: str, tools: tuple[str, ...] = TOOLS) -> list[Delta]:
    """The deltas of a text in pieces; texts in a row and the pieces of one call's arguments joined."""
    taken = Deltas(generation, tools)
    found = [delta for piece in pieces for delta in taken.push(piece)] + taken.finish()
    joined: list[Delta] = []
    for delta in found:
        assert delta not in ("", Arguments(""))
        if isinstance(delta, str) and joined and isinstance(joined[-1], str):
            joined[-1] += delta
        elif isinstance(delta, Arguments) and isinstance(joined[-1], Arguments):
            joined[-1] = Arguments(joined[-1].text + delta.text)
        else:
            joined.append(delta)
    return joined


@pytest.mark.parametrize(
    "text, generation, wanted",
    [
        (V3, "v3", CALL),
        (GLM4, "glm4", CALL),
        (f" {GLM4} \n", "v2", CALL),
        ("\n 今天晴。 ", "v3", ["今天晴。"]),
        (f"\n我查一下。{NEXT_MESSAGE}{V3}", "v3", ["我查一下。", *CALL]),
        (f"{GLM4}{NEXT_MESSAGE}get_time\n{{}}", "glm4", [*CALL, Calling("get_time"), Arguments("{}")]),
        (f"{GLM4}{NEXT_MESSAGE}\nso", "glm4", [*CALL, "so"]),
        (f"\none{NEXT_MESSAGE}\ntwo", "glm4", ["one\ntwo"]),
        ('Result\n{"a": 1}', "glm4", ['Result\n{"a": 1}']),  # no tool of that name was offered
        ('\nget_weather\n{"a": 1}', "glm4", ['get_weather\n{"a": 1}']),  # the first line is empty: a text
        ('get_weather\n{"cut o', "glm4", [Calling("get_weather"), Arguments('{"cut o')]),
        ("get_weather\n ```python\ntool_call()\n```", "v3", [Calling("get_weather"), Arguments("{}")]),
        (
            'get_weather\n```python\ntool_call(a="x, b=(\\"}", c=[{"d": 1}, 2], e=null)\n```', "v3",
            [Calling("get_weather"), Arguments('{"a": "x, b=(\\"}", "c": [{"d": 1}, 2], "e": null}')],
        ),
        (
            'get_weather\n```python\ntool_call(**{"my-arg": {"x": ")"}})\n```', "v3",
            [Calling("get_weather"), Arguments('{"my-arg": {"x": ")"}}')],
        ),
        (
            f'get_weather\n{{"a": "{NEXT_MESSAGE}", "b": "}}"}}{NEXT_MESSAGE}\ntext', "glm4",
            [Calling("get_weather"), Arguments(f'{{"a": "{NEXT_MESSAGE}", "b": "}}"}}'), "text"],
        ),
        ("get", "glm4", ["get"]),
        ("fine , it n't . ", "v3", ["fine, itn't."]),  # a grammar's text was not mended while it was decoded
        ("fine , it is . ", "glm4", ["fine , it is ."]),
        ("", "v3", []),
    ],
)  # fmt: skip
def test_calls_and_texts(text: str, generation: str, wanted: list[Delta]) -> None:
    assert deltas([text], generation) == wanted
    assert deltas(list(text), generation) == wanted


def test_text_passes_as_soon_as_it_cannot_be_a_call() -> None:
    taken = Deltas("glm4", TOOLS)
    assert taken.push("get_") == []
    assert taken.push("lost, he said") == ["get_lost, he said"]
    assert taken.push(" <|assis") == []
    assert taken.push("tant of mine") == [" <|assistant of mine"]


@pytest.mark.parametrize("generation, text", [("v3", V3), ("glm4", GLM4)])
def test_arguments_pass_as_they_come(generation: str, text: str) -> None:
    taken = Deltas(generation, TOOLS)
    seen = [taken.push(character) for character in text]
    assert seen[text.index("\n")] == [Calling("get_weather")]
    assert seen[text.index("北")] == [Arguments("北")] and seen[text.index("京")] == [Arguments("京")]
    assert taken.called


def test_a_cut_call_is_not_called() -> None:
    taken = Deltas("glm4", TOOLS)
    taken.push(GLM4 + NEXT_MESSAGE)
    assert taken.called
    taken.push('get_time\n{"zone": ')
    assert not taken.called


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    arguments=st.dictionaries(st.sampled_from(["city", "days", "é"]), json_values),
    cuts=st.lists(st.integers(0, 200)),
    generation=st.sampled_from(["v1", "v3", "glm4", "glm4-0414"]),
    kept=st.booleans(),
)
def test_the_pieces_join_to_the_arguments(arguments: dict, cuts: list[int], generation: str, kept: bool) -> None:
    """Whatever stands in them, in both ways to write a call."""
    text = json.dumps(arguments, ensure_ascii=not kept)
    if generation == "v3":
        named = ", ".join(f"{name}={json.dumps(value, ensure_ascii=not kept)}" for name, value in arguments.items())
        text = f" ```python\ntool_call({named if cuts else f'**{text}'})\n```"
    text = "get_time\n" + text
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    [call, *pieces] = deltas([text[a:b] for a, b in pairwise(places)], generation)
    assert call == Calling("get_time") and len(pieces) == 1 and isinstance(pieces[0], Arguments)
    assert json.loads(pieces[0].text) == arguments


@given(
    text=st.text(alphabet=" \n{}\"':1a好get_weather<|assistant|>", max_size=60),
    cuts=st.lists(st.integers(0, 60)),
    generation=st.sampled_from(["v1", "v2", "v3", "glm4"]),
    offered=st.booleans(),
)
def test_cutting_changes_nothing(text: str, cuts: list[int], generation: str, offered: bool) -> None:
    tools = TOOLS if offered else ()
    text = text.replace("\n", " ") if offered else text  # what comes of a call that no grammar has made is not said
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert deltas(pieces, generation, tools) == deltas([text], generation, tools)


@given(st.text(alphabet=" \n,!年好ab[训练时间]", max_size=40), st.sampled_from(["v1", "v2"]))
def test_without_tools_the_text_is_the_originals(text: str, generation: str) -> None:
    assert "".join(map(str, deltas([text], generation, ()))) == process_response(text, generation)
