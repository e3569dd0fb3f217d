"""What an answer may be, as grammars in llguidance's form of Lark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmcore.chat.messages import short
from glmcore.chat.reasoning import END
from glmcore.errors import GlmError
from glmcore.grammar.schema import Checker
from glmcore.traits import TRAITS

# Between the parts of JSON: a line with its indentation, or a blank or two. Without a bound a model may go on for ever.
WHITESPACE = r"\n[ \t]{0,40}|[ ]{1,2}"
# A thought first, where the model has one, and the line break or blank that each answer begins with.
THINKING = rf"""start: thought BLANKS? body
thought[lazy]: /(?s:.*)<\/{END[2:]}/
"""
START = """start: BLANKS? body
"""
BLANKS = r"BLANKS: /[ \n]{1,3}/" + "\n"
FORMATS = ("text", "json_object", "json_schema")


@dataclass(frozen=True)
class Grammar:
    """What an answer may be; ``where`` names the setting that asks for it, as errors say it.

    ``lark``: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
    """

    lark: str
    where: str = ""


def json_schema(schema: Mapping[str, Any], generation: str, *, strict: bool = True, where: str = "") -> Grammar:
    """An answer that is JSON by ``schema``. Errors: GlmError("usage"), as those of ``Checker``."""
    return Grammar(_begun(generation) + f"body: {inline(Checker(strict, where).checked(schema))}\n", where)


def by_format(asked: Any, generation: str, where: str = "response_format") -> Grammar | None:
    """What OpenAI's ``response_format`` asks for; None for text. Errors: GlmError("usage")."""
    kind = asked.get("type") if isinstance(asked, Mapping) else asked
    if asked is None or kind == "text":
        return None
    if kind not in FORMATS or not isinstance(asked, Mapping):
        hint = f"its type is one of {', '.join(FORMATS)}"
        raise GlmError("usage", f"unknown response_format {short(kind)}", where=where, hint=hint)
    if kind == "json_object":
        return json_schema({"type": "object"}, generation, where=where)
    inner = asked.get("json_schema")
    if not isinstance(inner, Mapping) or "schema" not in inner:
        raise GlmError("usage", "the schema itself is missing", where=where, hint="it is json_schema.schema")
    return json_schema(inner["schema"], generation, strict=inner.get("strict") is True, where=where)


def inline(schema: Mapping[str, Any]) -> str:
    """A schema as part of a grammar."""
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": WHITESPACE}})


def _begun(generation: str) -> str:
    return (THINKING if TRAITS[generation].thinks else START) + BLANKS
