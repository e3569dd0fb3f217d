"""What an answer may be, as grammars in llguidance's form of Lark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glmcore.chat.messages import short
from glmcore.chat.reasoning import END
from glmcore.errors import GlmError
from glmcore.grammar.schema import Checker, inline
from glmcore.traits import TRAITS

# A thought first, where the model has one.
THOUGHT = rf"thought[lazy]: /(?s:.*)<\/{END[2:]}/"
# Before JSON: the line break or blank that each answer begins with.
BLANKS = r"BLANKS: /[ \n]{1,3}/"
FORMATS = ("text", "json_object", "json_schema")


@dataclass(frozen=True)
class Grammar:
    """What an answer may be; ``where`` names the setting that asks for it, as errors say it.

    ``lark``: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
    """

    lark: str
    where: str = ""


def answer(generation: str, rules: Iterable[str], where: str = "") -> Grammar:
    """The grammar whose ``rules`` say what ``body`` is; of a model that thinks, behind its thought."""
    thinks = TRAITS[generation].thinks
    start = ["start: thought body", THOUGHT] if thinks else ["start: body"]
    return Grammar("\n".join((*start, *rules)) + "\n", where)


def json_schema(schema: Any, generation: str, *, strict: bool = True, where: str = "") -> Grammar:
    """An answer that is JSON by ``schema``. Errors: GlmError("usage"), as those of ``Checker``."""
    return answer(generation, held("body", Checker(strict, where).checked(schema)), where)


def held(rule: str, schema: Mapping[str, Any]) -> list[str]:
    """``rule``: JSON by a schema."""
    return [f"{rule}: BLANKS? {rule}_json", f"{rule}_json: {inline(schema)}", BLANKS]


def schema_of(asked: Any, where: str = "response_format") -> dict[str, Any] | None:
    """The schema that OpenAI's ``response_format`` asks for, checked; None for text. Errors: GlmError("usage")."""
    kind = asked.get("type") if isinstance(asked, Mapping) else asked
    if asked is None or kind == "text":
        return None
    if kind not in FORMATS or not isinstance(asked, Mapping):
        hint = f"its type is one of {', '.join(FORMATS)}"
        raise GlmError("usage", f"unknown response_format {short(kind)}", where=where, hint=hint)
    if kind == "json_object":
        return {"type": "object"}
    inner = asked.get("json_schema")
    if not isinstance(inner, Mapping) or "schema" not in inner:
        raise GlmError("usage", "the schema itself is missing", where=where, hint="it is json_schema.schema")
    return Checker(inner.get("strict") is True, where).checked(inner["schema"])
