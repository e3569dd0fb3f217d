"""What of JSON Schema a grammar can hold an answer to, and what is too much of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from glmcore.chat.messages import short
from glmcore.errors import GlmError
from glmcore.grammar.endings import ends

# Characters, and levels of JSON. What a schema of that size costs to compile ``trial`` finds out.
LONGEST, DEEPEST = 2**18, 96
# Of JSON Schema's keywords (draft 4 to 2020-12) those that no grammar here holds an answer to, and what they are with
# a value that asks for nothing.
UNSUPPORTED: dict[str, Any] = {
    **dict.fromkeys(
        ("not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependencies",
         "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef",
         "$recursiveRef")
    ),
    "uniqueItems": False,
}  # fmt: skip
# Where schemas stand in a schema: alone, in a list, by name.
ALONE = ("items", "additionalItems", "additionalProperties")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
NAMED = ("properties", "patternProperties", "$defs", "definitions")
# JSON Schema's own formats that a grammar does not know; other words than its own are annotations, by its rules.
UNKNOWN_FORMATS = (
    "idn-email", "idn-hostname", "iri", "iri-reference", "uri-reference", "uri-template", "json-pointer",
    "relative-json-pointer", "regex",
)  # fmt: skip
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
# Between the parts of JSON: a line with its indentation, or a blank or two. Without a bound a model may go on for ever.
WHITESPACE = r"\n[ \t]{0,40}|[ ]{1,2}"
# What the compiler's formats let pass and no calendar has: the year 0, and the 29th of February without a leap year;
# and what Python's own clock has not: the second 60.
DAY = (
    r"^([1-9]\d{3}-(0[13-9]|1[0-2]|02-[01]|02-2[0-8])"
    r"|([1-9]\d([2468][048]|0[48]|[13579][26])|([2468][048]|[13579][26])00)-02-29)"
)
EXACT = {"date": [DAY], "date-time": [DAY, r"^.{11}\d\d:\d\d:[0-5]"], "time": [r"^\d\d:\d\d:[0-5]"]}
# Characters of formats that say of no part how long it may be: a model may go on in one for ever. An address's and a
# name's by RFC 5321 (4.5.3.1.3, without its brackets) and RFC 1035; a clock's with nanoseconds.
LONGEST_OF = {"email": 254, "hostname": 253, "date-time": 35, "time": 24, "duration": 64}
LOOKS_AROUND = ("(?=", "(?!", "(?<=", "(?<!")


class Checker:
    """A schema that a grammar can hold an answer to, from one that somebody sent.

    What no grammar can is refused where the schema is ``strict``, else left out. Errors: GlmError("usage").
    """

    def __init__(self, strict: bool, where: str) -> None:
        self.strict, self.where = strict, where

    def checked(self, schema: object) -> dict[str, Any]:
        """Errors: also for what is no schema, too long, nested too deep, or has no answer that ends."""
        if not isinstance(schema, Mapping):
            raise self.error(f"a schema is a JSON object, not {short(schema)}")
        self._measure(schema)
        made = self._schema(schema)
        if not ends(made):
            raise self.error("nothing that ends satisfies the schema")
        return made

    def error(self, what: str, hint: str = "") -> GlmError:
        return GlmError("usage", what, where=self.where, hint=hint)

    def _measure(self, schema: Mapping[str, Any]) -> None:
        if _depth(schema) > DEEPEST:
            raise self.error(f"the schema is nested deeper than {DEEPEST} levels")
        try:
            text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
            text.encode("utf-8")
        except (TypeError, ValueError):
            raise self.error("the schema is no JSON") from None
        if len(text) > LONGEST:
            raise self.error(f"the schema is longer than {LONGEST} characters")

    def _schema(self, schema: Any) -> Any:
        if not isinstance(schema, Mapping):
            return schema  # true or false; anything else the compiler names
        made = {}
        for name, value in schema.items():
            if self._holds(name, value):
                made[name] = self._inside(name, value)
        made = made if self.strict or "oneOf" not in made else _any_of(made)
        return _exact(made)

    def _inside(self, name: str, value: Any) -> Any:
        if name in NAMED and isinstance(value, Mapping):
            return {key: self._schema(inner) for key, inner in value.items()}
        if name in LISTED and isinstance(value, list):
            return [self._schema(inner) for inner in value]
        return self._schema(value) if name in ALONE else value

    def _holds(self, name: str, value: Any) -> bool:
        """Whether a grammar holds an answer to a keyword. Errors: GlmError("usage") where it must and cannot."""
        if name == "format":
            refused, known = value in UNKNOWN_FORMATS, value in FORMATS
        elif name == "pattern":
            refused = isinstance(value, str) and any(look in value for look in LOOKS_AROUND)
            known = not refused
        else:
            refused = name in UNSUPPORTED and value != UNSUPPORTED[name]
            known = name not in UNSUPPORTED and name != "x-guidance"  # the compiler's own settings
        if refused and self.strict:
            what = f"{name} {short(value)}" if name in ("format", "pattern") else name
            raise self.error(f"{what} is not supported in a schema", "leave it out, or set strict to false")
        return known


def inline(schema: Mapping[str, Any]) -> str:
    """A schema as part of a grammar."""
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": WHITESPACE}})


def _exact(schema: dict[str, Any]) -> dict[str, Any]:
    """With what its format lacks."""
    kind, before = str(schema.get("format")), schema.get("allOf", [])
    more: list[dict[str, Any]] = [{"pattern": pattern} for pattern in EXACT.get(kind, ())]
    if kind in LONGEST_OF:
        more.append({"maxLength": LONGEST_OF[kind]})
    return {**schema, "allOf": [*before, *more]} if more and isinstance(before, list) else schema


def _any_of(schema: dict[str, Any]) -> dict[str, Any]:
    """One of several cases as any of them, where both may be meant."""
    cases = schema.pop("oneOf")
    return {**schema, "allOf": [*schema.get("allOf", []), {"anyOf": cases}]} if "anyOf" in schema else {
        **schema, "anyOf": cases,
    }  # fmt: skip


def _depth(value: Any) -> int:
    """Levels of lists and objects within each other, without recursion."""
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        depth, level = depth + 1, [inner for each in level for inner in _parts(each)]
    return depth


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
