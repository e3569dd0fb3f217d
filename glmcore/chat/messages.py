"""OpenAI-shaped messages checked and brought to one form: plain turns, never the caller's own objects."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmcore.errors import GlmError

Message = Mapping[str, Any]
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "observation": "observation",
    "tool": "observation",
    "function": "observation",
}


@dataclass(frozen=True)
class Call:
    """A tool call of the assistant: the tool's name and its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """One message of a system, user, assistant or observation; ``metadata`` names a tool, in the original's form."""

    role: str
    content: str
    metadata: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()
    calls: tuple[Call, ...] = ()


def turns(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """The messages as turns; GlmError("usage") names the first one that makes no sense."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
        raise GlmError(
            "usage", "messages must be a list of {role, content}", where="messages",
            hint="pass [{'role': 'user', 'content': …}]",
        )  # fmt: skip
    checked = tuple(_turn(message, f"messages[{index}]") for index, message in enumerate(messages))
    if not checked:
        raise GlmError("usage", "there is no message to answer", where="messages", hint="pass one of the user at least")
    return checked


def _turn(message: Message, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise GlmError("usage", f"a message must be a dict, not {type(message).__name__}", where=where)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise GlmError("usage", f"unknown role {short(role)}", where=where, hint=f"use one of {', '.join(ROLES)}")
    calls = tuple(_call(call, where) for call in _calls(message, where))
    if calls and role != "assistant":
        raise GlmError("usage", f"a message of the role {role} cannot call tools", where=where)
    metadata = message.get("metadata")
    metadata = "" if metadata is None else metadata
    if not isinstance(metadata, str):
        raise GlmError("usage", "metadata must be text", where=where)
    return Turn(
        role=ROLES[role],
        content=_text(
            message.get("content"), where, optional=bool(calls) or not {"content", "tools"}.isdisjoint(message)
        ),
        metadata=metadata,
        tools=tools_of(message.get("tools"), where),
        calls=calls,
    )


def _calls(message: Message, where: str) -> Sequence[object]:
    """The calls of a message in OpenAI's form, or in its older one, which knew one call."""
    calls = message.get("tool_calls")
    calls = () if calls is None else calls
    if not isinstance(calls, Sequence) or isinstance(calls, str | bytes):
        raise GlmError("usage", "tool_calls must be a list of calls", where=where)
    older = message.get("function_call")
    return calls if older is None else [*calls, {"function": older}]


def _text(content: object, where: str, optional: bool) -> str:
    """Text of a content field: a str, null for none, or a list of text parts that are joined."""
    if content is None and optional:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_part(part, where) for part in content)
    raise GlmError("usage", f"content must be text, not {type(content).__name__}", where=where)


def _part(part: object, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise GlmError("usage", f"content part {short(kind)} is no text", where=where, hint="these models read text only")


def tools_of(tools: object, where: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """The tool descriptions as a tuple, each a mapping. Errors: GlmError("usage")."""
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or isinstance(tools, str) or not all(isinstance(t, Mapping) for t in tools):
        raise GlmError("usage", "tools must be a list of tool descriptions", where=where)
    if not all(isinstance(tool.get("type", ""), str) for tool in tools):
        raise GlmError("usage", "the type of a tool must be text", where=where, hint='for example "function"')
    return tuple(tools)


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bare function of an OpenAI tool description; a bare one is its own."""
    inner = tool.get("function")
    return inner if tool.get("type") == "function" and isinstance(inner, Mapping) else tool


def named_function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bare function of a tool that can be called. Errors: GlmError("usage") for any other kind, or no name."""
    function, kind = function_of(tool), tool.get("type", "function")
    if not isinstance(function.get("name"), str):
        what = "a function that is offered as a tool has no name"
        what = what if kind == "function" else f"unknown kind of tool {short(kind)}; functions can be offered"
        raise GlmError("usage", what, where="tools")
    return function


def tool_names(messages: Iterable[Message], tools: object) -> frozenset[str]:
    """The functions that may be called: those of ``tools``, and of system messages in the original's form.

    Errors: GlmError("usage").
    """
    inside = [tool for message in messages for tool in tools_of(message.get("tools"))]
    names = [function_of(tool).get("name") for tool in (*tools_of(tools), *inside)]
    return frozenset(name for name in names if isinstance(name, str))


def _call(call: object, where: str) -> Call:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise GlmError("usage", "a tool call needs function.name and function.arguments", where=where)
    arguments = function.get("arguments")
    arguments = {} if arguments in (None, "") else arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, Mapping):
        raise GlmError("usage", f"the arguments of {short(name)} are no JSON object", where=where)
    return Call(name, dict(arguments))


def short(value: object) -> str:
    """A caller's value as errors show it."""
    return reprlib.repr(value)


def from_pairs(history: Iterable[Sequence[str]], query: str) -> list[dict[str, str]]:
    """Messages from the (query, answer) pairs of ChatGLM-6B and ChatGLM2-6B, and a new query."""
    pairs = [
        {"role": role, "content": text}
        for pair in history
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return [*pairs, {"role": "user", "content": query}]
