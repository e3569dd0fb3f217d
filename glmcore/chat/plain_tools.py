"""Tools for models that were trained without: a prompt of our own, since there is none of theirs.

Functions are described in a system message, a call is its name in one line and its arguments below, as GLM-4 writes
it, and a result is what the user says next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from glmcore.chat.bounds import LONGEST_TOOLS, TOO_DEEP
from glmcore.chat.messages import Turn, named_function
from glmcore.errors import GlmError

HEAD = (
    "You can call these functions. To call one, answer with its name in the first line and a JSON object of its"
    " arguments in the second, and with nothing else:"
)
RESULT = "The function returned:\n"


def without_tools(chat: tuple[Turn, ...], tools: tuple[Mapping[str, Any], ...]) -> tuple[Turn, ...]:
    """The same talk in turns of system, user and assistant alone. Errors: GlmError("usage")."""
    every = (*tools, *(tool for turn in chat for tool in turn.tools))
    described = (Turn("system", described_as(every)),) if every else ()
    lead = next((place for place, turn in enumerate(chat) if turn.role != "system"), len(chat))
    plain = [part for turn in chat[lead:] for part in _plain(turn)]
    return (*(replace(turn, tools=()) for turn in chat[:lead] if turn.content), *described, *plain)


def described_as(tools: tuple[Mapping[str, Any], ...]) -> str:
    """A line for each function. Errors: GlmError("usage") where they become too long, or are no functions."""
    lines = [HEAD]
    for tool in tools:
        lines.append(_json(dict(named_function(tool)), "tools"))
    text = "\n".join(lines)
    if len(text) > LONGEST_TOOLS:
        what = f"the tools' descriptions are longer than {LONGEST_TOOLS} characters"
        raise GlmError("usage", what, where="tools", hint="offer fewer")
    return text


def _plain(turn: Turn) -> Iterator[Turn]:
    if turn.role == "observation":
        yield Turn("user", RESULT + turn.content)
    elif turn.content or not turn.calls:
        yield replace(turn, tools=())
    for call in turn.calls:
        yield Turn("assistant", f"{call.name}\n{_json(call.arguments, 'messages')}")


def _json(value: object, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise GlmError("usage", TOO_DEEP, where=where) from None
    except (TypeError, ValueError):
        raise GlmError("usage", "the description of a tool is no JSON", where=where) from None
