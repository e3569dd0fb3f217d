"""The older form of OpenAI's tools: ``functions``, ``function_call``, and one call in an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glmcore.chat.messages import short
from glmcore.errors import GlmError
from glmcore.server.errors import ApiError

Function = Mapping[str, Any]


def as_tools(functions: Sequence[Function], choice: Any) -> dict[str, Any]:
    """The same in today's words."""
    named = {"type": "function", "function": choice} if isinstance(choice, Mapping) else choice
    tools = [{"type": "function", "function": function} for function in functions]
    return {"tools": tools, "tool_choice": named, "parallel_tool_calls": False}


def check_choice(functions: Sequence[Function], choice: Any) -> None:
    """Errors: ApiError(400) for a ``function_call`` that makes no sense beside ``functions``."""
    name = choice.get("name") if isinstance(choice, Mapping) else None
    if choice in (None, "none") or (choice == "auto" and functions):
        return
    if not functions:
        raise ApiError(400, "function_call needs functions", param="function_call")
    if not isinstance(name, str):
        raise ApiError(400, 'function_call is "auto", "none" or {"name": …}', param="function_call")
    if name not in [function.get("name") for function in functions]:
        message = f"function_call asks for {short(name)}, which is not among the functions"
        raise ApiError(400, message, param="function_call")


def in_older_words(error: GlmError) -> GlmError:
    """An error of the tools as one of the functions that they were made from."""
    if not error.where.startswith("tools"):
        return error
    where = error.where.replace("tools", "functions", 1).replace(".function", "", 1)
    return GlmError(error.code, error.what, where=where, hint=error.hint)


def of_older(said: dict[str, Any]) -> dict[str, Any]:
    """A message, or a delta of one, with its call as ``function_call``."""
    if not (calls := said.get("tool_calls")):
        return said
    rest = {name: value for name, value in said.items() if name != "tool_calls"}
    return {**rest, "function_call": calls[0]["function"]}
