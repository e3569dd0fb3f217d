"""What is asked of an answer, in OpenAI's words, as what the model is told and the grammar that holds it to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmcore.chat.formats import told
from glmcore.chat.messages import Message, function_of, short, tools_of
from glmcore.errors import GlmError
from glmcore.grammar.forms import Grammar, answer, held, schema_of
from glmcore.grammar.tools import functions, rules
from glmcore.traits import TRAITS

Tool = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """``messages`` and ``tools`` are those that the model is told of, ``names`` the functions that it may call; held:
    whether its text is JSON by a schema."""

    messages: Sequence[Message]
    tools: tuple[Tool, ...]
    names: frozenset[str]
    grammar: Grammar | None
    held: bool


def shaped(
    messages: Sequence[Message], generation: str, next_message: int | None, *, tools: Sequence[Tool] | None = None,
    tool_choice: Any = None, parallel_tool_calls: bool | None = None, response_format: Any = None,
) -> Shape:  # fmt: skip
    """Errors: GlmError("usage") for a choice, a format or a schema that makes no sense or cannot hold.

    next_message: the token between the messages of one answer, where it may have several. Functions in the messages, in
    the originals' form, are offered too.
    """
    form = schema_of(response_format)
    heard = told(messages, response_format) if form else messages
    given = tools_of(tools)
    mode, name = _choice(tool_choice, given)
    alone = answer(generation, held("body", form), "response_format") if form else None
    if mode == "none":
        return Shape(heard, (), frozenset(), alone, form is not None)
    inside = [tool for message in messages if isinstance(message, Mapping) for tool in tools_of(message.get("tools"))]
    offered = functions((*given, *inside))
    allowed = [function for function in offered if name in (None, function.name)]
    if not allowed:
        return Shape(heard, given, frozenset(), alone, form is not None)
    traits = TRAITS[generation]
    text = (held("text", form) if form else ["text: TEXT"]) if mode == "auto" else []
    several = parallel_tool_calls is not False and name is None
    row = _row(f"<[{next_message}]>" if next_message is not None else "", bool(text), several)
    calls = rules(allowed, python=traits.python_calls, lead=r"[ \n]" if traits.thinks else "[ ]")
    grammar = answer(generation, [row, *text, *calls], "tools")
    return Shape(heard, given, frozenset(each.name for each in allowed), grammar, form is not None)


def _row(gap: str, texts: bool, several: bool) -> str:
    """The messages of one answer: of texts and calls as many as may be. gap: what stands between them, "" where nothing
    may."""
    last = "(text | call)" if texts else "call"
    before = last if several else "text" if texts else ""
    return f"body: ({before} {gap})* {last}" if before and gap else f"body: {last}"


def _choice(asked: Any, tools: tuple[Tool, ...]) -> tuple[str, str | None]:
    """auto, none or required, and the name of the one function that it must be."""
    if asked is None or asked in ("auto", "none"):
        return asked or "auto", None
    function = asked.get("function") if isinstance(asked, Mapping) and asked.get("type") == "function" else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if asked != "required" and not isinstance(name, str):
        hint = 'it is "auto", "none", "required" or {"type": "function", "function": {"name": …}}'
        raise GlmError("usage", f"no tool_choice {short(asked)}", where="tool_choice", hint=hint)
    names = [function_of(tool).get("name") for tool in tools]
    if not names or (name is not None and name not in names):
        wanted = f"{short(name)}, which is not among the tools" if name else "a call, and there are no tools"
        what = f"tool_choice asks for {wanted}"
        raise GlmError("usage", what, where="tool_choice")
    return "required", name
