"""What a model is told of the form that its answer is to have: none of them learned a ``response_format``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from glmcore.chat.messages import Message

ANY_OBJECT = "Answer with one JSON object and nothing else."
BY_SCHEMA = "Answer with JSON by this JSON schema and nothing else:\n"


def told(messages: Sequence[Message], response_format: Any) -> Sequence[Message]:
    """The messages with that, where JSON is asked for. Whatever is wrong with either is said elsewhere."""
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "json_object":
        return with_system(messages, ANY_OBJECT)
    if kind != "json_schema":
        return messages
    schema = response_format["json_schema"]["schema"]
    return with_system(messages, BY_SCHEMA + json.dumps(schema, ensure_ascii=False))


def with_system(messages: Sequence[Message], text: str) -> Sequence[Message]:
    """``text`` at the end of the leading system message, or in one of its own."""
    if not messages or not isinstance(messages[0], Mapping) or messages[0].get("role") not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    lead, content = messages[0], messages[0].get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
    gap = [{"type": "text", "text": "\n\n"}] if parts else []
    return [{**lead, "content": [*parts, *gap, {"type": "text", "text": text}]}, *messages[1:]]
