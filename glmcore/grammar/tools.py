"""Calls of tools as each generation writes them, as parts of a grammar: no call can be anything else than valid."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from glmcore.chat.messages import function_of, short
from glmcore.errors import GlmError
from glmcore.grammar.schema import Checker, inline

NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
PLAIN_KEYS = {
    "type", "properties", "required", "additionalProperties", "title", "description", "$defs", "definitions", "$schema",
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function that may be called, and what its arguments may be."""

    name: str
    parameters: Mapping[str, Any]


def functions(tools: Iterable[Mapping[str, Any]]) -> tuple[Function, ...]:
    """Those among ``tools``, in OpenAI's form or bare. Errors: GlmError("usage") for a schema that cannot hold."""
    found: dict[str, Function] = {}
    for number, tool in enumerate(tools):
        function, where = function_of(tool), f"tools[{number}]"
        name = function.get("name")
        if not isinstance(name, str):
            continue  # one of GLM-4's own, or nothing that could be called
        if not name.strip() or name != name.strip() or "\n" in name:
            raise GlmError("usage", f"no function can have the name {short(name)}", where=where)
        if name in found:
            raise GlmError("usage", f"two functions have the name {short(name)}", where=where)
        checker = Checker(function.get("strict") is True, f"{where}.function.parameters")
        found[name] = Function(name, _object(function.get("parameters"), checker))
    return tuple(found.values())


def _object(parameters: Any, checker: Checker) -> Mapping[str, Any]:
    """The schema of a function's arguments, which are an object. None: it has none."""
    if parameters in (None, {}):
        return NOTHING
    schema = checker.checked(parameters)
    if "object" not in schema.get("type", "object"):
        raise checker.error("the arguments of a function are an object")
    return {**schema, "type": "object"}


def rules(offered: Sequence[Function], *, python: bool, lead: str) -> list[str]:
    """The rule ``call``, and ``TEXT`` for what is no call: its first line is no function's name.

    python: as ChatGLM3 writes them. lead: a class of characters, the blanks that may stand before a name.
    """
    numbers = range(len(offered))
    # Blanks and name are one terminal: of two that begin alike the lexer goes on with the longer one.
    made = [
        "call: " + " | ".join(f"NAME_{number} args_{number}" for number in numbers),
        "NAMES: " + " | ".join(json.dumps(function.name) for function in offered),
        f"TEXT: /(?s:.*)/ & ~(/{lead}*/ NAMES /[ ]*\\n(?s:.*)/)",
    ]
    for number, function in enumerate(offered):
        made.append(f"NAME_{number}: /{lead}{{0,3}}/ {json.dumps(function.name)} /[ ]{{0,3}}\\n/")
        made += _python(f"args_{number}", function.parameters) if python else [
            f"args_{number}: {inline(function.parameters)}"
        ]  # fmt: skip
    return made


def _python(rule: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """ChatGLM3's: ``tool_call(name=value, …)`` between fence lines; ``tool_call(**{…})`` where names alone do not say
    what may be."""
    opening, closing = json.dumps("```python\ntool_call("), json.dumps(")\n```")
    if not _is_plain(parameters):
        yield f'{rule}: " "? {opening} "**" {rule}_all {closing}'
        yield f"{rule}_all: {inline(parameters)}"
        return
    yield f'{rule}: " "? {opening} {rule}_0 {closing}'
    named = [(name, schema) for name, schema in parameters["properties"].items() if schema is not False]
    required = parameters.get("required", ())
    shared = {name: parameters[name] for name in ("$defs", "definitions") if name in parameters}
    # One rule for what may come from each place on: the next argument, or a later one where this may be left out.
    for place, (name, schema) in enumerate(named):
        value = {} if schema is True else schema
        yield f"{rule}_v{place}: {json.dumps(name + '=')} {rule}_s{place}"
        yield f"{rule}_s{place}: {inline({**value, **shared})}"
        skip = f" | {rule}_{place + 1}" if name not in required else ""
        yield f"{rule}_{place}: {rule}_v{place} {rule}_then{place + 1}{skip}"
        skip = f" | {rule}_then{place + 1}" if name not in required else ""
        yield f'{rule}_then{place}: ", " {rule}_v{place} {rule}_then{place + 1}{skip}'
    yield f'{rule}_{len(named)}: ""'
    yield f'{rule}_then{len(named)}: ""'


def _is_plain(parameters: Mapping[str, Any]) -> bool:
    """Whether the arguments are just those that its properties name, as Python can."""
    properties = parameters.get("properties")
    return (
        parameters.keys() <= PLAIN_KEYS
        and isinstance(properties, Mapping)
        and not isinstance(parameters.get("additionalProperties"), Mapping)
        and all(name.isidentifier() and not iskeyword(name) for name in properties)
        and set(parameters.get("required", ())) <= properties.keys()
        and all(reference.startswith(("#/$defs/", "#/definitions/")) for reference in _references(parameters))
    )


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _references(inner)
