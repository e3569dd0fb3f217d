"""Which functions may be called."""

from glmcore.chat.messages import tool_names

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def test_tools_are_offered_apart_or_in_a_system_message():
    inside = {"role": "system", "content": "", "tools": [{"name": "clock"}]}
    assert tool_names([inside, {"role": "user", "content": "hi"}], [WEATHER]) == {"weather", "clock"}
    assert tool_names([{"role": "user", "content": "hi"}], None) == frozenset()
