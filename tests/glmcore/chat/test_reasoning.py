"""GLM-Z1's thoughts: apart from the answer however the text is cut, and never in the next prompt."""

from __future__ import annotations

import io
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmcore.chat.calls import Arguments, Calling
from glmcore.chat.deltas import Deltas
from glmcore.chat.reasoning import Reasoning, Thought
from glmcore.cli.conversation import Conversation
from glmcore.cli.display import display
from glmcore.cli.settings import Settings
from glmcore.server import replies

TEXT = "\n好的，1 < 2 and </thin is no end.\n \n</think>\n\nThe answer: 3 < 4.</think>"
THOUGHT, ANSWER = "好的，1 < 2 and </thin is no end.", "The answer: 3 < 4.</think>"


def parts(text, cuts):
    places = sorted({0, *(cut % (len(text) + 1) for cut in cuts), len(text)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


@given(cuts=st.lists(st.integers(0, 200), max_size=30))
def test_however_it_is_cut(cuts):
    reasoning, thoughts, answers = Reasoning("glm-z1"), "", ""
    for piece in parts(TEXT, cuts):
        thought, answer = reasoning.push(piece)
        thoughts, answers = thoughts + thought, answers + answer
    assert (thoughts + reasoning.flush(), answers) == (THOUGHT, ANSWER)


@pytest.mark.parametrize("generation", ["v1", "glm4", "glm4-hf", "glm4-0414", "glm-edge"])
def test_others_do_not_think(generation):
    assert Reasoning(generation).push(TEXT) == ("", TEXT)


def test_a_thought_that_is_cut_short_is_no_answer():
    reasoning = Reasoning("glm-z1")
    assert reasoning.push("<think>\nstill at i") == ("still at i", "")
    assert reasoning.push("t </th") == ("t", "") and reasoning.flush() == " </th"


def test_the_api_says_it_as_reasoning_content():
    deltas = Deltas("glm-z1")
    found = [delta for piece in parts(TEXT, range(0, 200, 7)) for delta in deltas.push(piece)] + deltas.finish()
    assert replies.message(found) == {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}
    assert replies.chat_delta(Thought("hm"), 0) == {"reasoning_content": "hm"}


def test_a_call_after_a_thought_is_a_call():
    deltas = Deltas("glm-z1", ["get_weather"])
    found = deltas.push('I need it.</think>\n\nget_weather\n{"city": "北京"}') + deltas.finish()
    assert found == [Thought("I need it."), Calling("get_weather"), Arguments('{"city": "北京"}')]


class Engine:
    """A double: an engine that thinks aloud."""

    def stream(self, messages, think, **settings):
        think("hm, ")
        think("yes")
        yield "Yes."
        yield " Yes!"


    def sampling(self, *settings, **more):
        pass


@pytest.mark.parametrize("term", ["dumb", "xterm", None])
def test_the_chat_dims_thoughts_and_forgets_them(monkeypatch, term):
    """On a terminal that draws or does not, and in a pipe."""
    stdout = io.StringIO()
    stdout.isatty = lambda: term is not None
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("TERM", term or "xterm")
    conversation = Conversation(Engine(), None, Settings(Engine()))
    conversation.answer("Well?", display())
    written = stdout.getvalue()
    assert written.startswith("\x1b[2mhm, yes\x1b[22m\n\n" if term else "hm, yes\n\n")
    assert written.endswith("\n\nYes. Yes!\n") or (term == "xterm" and "Yes. Yes!\n" in written)
    assert conversation.turns[-1] == {"role": "assistant", "content": "Yes. Yes!"}
