"""Which generated texts count as a call: only of a tool that was offered, with arguments that JSON can carry."""

import pytest

from glmcore.chat.messages import Call, tool_names
from glmcore.chat.responses import parse_call

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def v3(arguments, name="weather"):
    return f"{name}\n```python\ntool_call({arguments})\n```"


def test_an_offered_call_is_one():
    assert parse_call(v3("city='北京'"), "v3", {"weather"}) == Call("weather", {"city": "北京"})
    assert parse_call('weather\n{"city": "北京"}', "glm4", {"weather"}) == Call("weather", {"city": "北京"})


@pytest.mark.parametrize(
    "text", [v3("city='x'", name="shell"), v3("city=b'1'"), v3("city={1, 2}"), v3("n=1e999"), "weather"]
)
def test_anything_else_is_text(text):
    assert parse_call(text, "v3", {"weather"}) is None


def test_tools_are_offered_apart_or_in_a_system_message():
    inside = {"role": "system", "content": "", "tools": [{"name": "clock"}]}
    assert tool_names([inside, {"role": "user", "content": "hi"}], [WEATHER]) == {"weather", "clock"}
    assert tool_names([{"role": "user", "content": "hi"}], None) == frozenset()
