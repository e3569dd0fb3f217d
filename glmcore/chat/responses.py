"""What the original makes of a generated text: cleaned text, or a tool call that is parsed and never run."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from glmcore.errors import GlmError
from glmcore.traits import TRAITS

Content = str | dict[str, Any]
# The models learned this marker in place of a year.
TRAINED_ON, YEAR = "[[训练时间]]", "2023年"
CHINESE = "[\u4e00-\u9fff]"
WIDE = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}


def process_response(text: str, generation: str, history: Sequence[Mapping[str, Any]] | None = None) -> Any:
    """What the original's ``process_response`` gives for a generated ``text``.

    v1 and v2: the cleaned text. v3 and glm4 with the messages so far as ``history``: (content, new history), where
    content is text, or a tool call: ``{"name", "parameters"}`` when the history's system message offers tools and
    ``{"name", "content"}`` when it does not. Without a history: the content alone, a tool call only if it parses.
    Where the original raises because a tool call does not parse, the content is the text, unparsed.
    """
    if generation not in TRAITS:
        raise GlmError("usage", f"unknown generation {generation!r}", hint=f"use one of {', '.join(TRAITS)}")
    if generation not in PARSERS:
        return clean_text(text, generation)
    if history is None:
        return _parse_last(text, generation)
    return _with_history(text, generation, history)


def clean_text(text: str, generation: str) -> str:
    """An ordinary answer as the original shows it."""
    return widen(_clean(text)) if TRAITS[generation].wide_punctuation else _clean(text)


def _clean(text: str) -> str:
    return text.strip().replace(TRAINED_ON, YEAR)


def widen(text: str) -> str:
    """Punctuation beside a Chinese character in its full width, since the v1 tokenizer writes it in half width."""
    for narrow, wide in WIDE.items():
        text = re.sub(f"({CHINESE}){re.escape(narrow)}", rf"\1{wide}", text)
        text = re.sub(f"{re.escape(narrow)}({CHINESE})", rf"{wide}\1", text)
    return text


def _split(message: str) -> tuple[str, str]:
    """The line that names a tool (blank in an ordinary answer), and what follows it."""
    head, newline, body = message.partition("\n")
    return (head, body) if newline else ("", message)


def _with_history(
    text: str, generation: str, history: Sequence[Mapping[str, Any]]
) -> tuple[Content, list[dict[str, Any]]]:
    grown = [deepcopy(dict(message)) for message in history]
    offered = bool(grown) and grown[0].get("role") == "system" and "tools" in grown[0]
    content: Content = ""
    for message in text.split("<|assistant|>"):
        name, body = _split(message)
        said = body if name.strip() else body.strip()
        grown.append({"role": "assistant", "metadata": name, "content": said})
        if not name.strip():
            content = said.replace(TRAINED_ON, YEAR)
        elif offered:
            content = _call(name, body, generation) or message
        else:
            content = {"name": name.strip(), "content": body}
    return content, grown


def _parse_last(text: str, generation: str) -> Content:
    message = text.split("<|assistant|>")[-1]
    name, body = _split(message)
    call = _call(name, body, generation) if name.strip() else None
    return call if call and isinstance(call["parameters"], dict) else _clean(message)


def _call(name: str, body: str, generation: str) -> dict[str, Any] | None:
    try:
        return {"name": name.strip(), "parameters": PARSERS[generation](body)}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None  # what the model wrote is no call: it stays text


def _v3_parameters(body: str) -> dict[str, Any]:
    """The keyword arguments of ``tool_call(…)`` between two fence lines, literals only."""
    code = "\n".join(body.split("\n")[1:-1]).strip()
    call = ast.parse(code, mode="eval").body
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id != "tool_call"
        or call.args
    ):
        raise ValueError("no call of tool_call with keyword arguments")
    parameters = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    if len(parameters) != len(call.keywords):
        raise ValueError("an argument without a name, or twice the same")
    return parameters


PARSERS: dict[str, Callable[[str], Any]] = {
    "v3": _v3_parameters,
    **dict.fromkeys(("glm4", "glm4-hf", "glm4-0414", "glm-z1"), json.loads),
}
