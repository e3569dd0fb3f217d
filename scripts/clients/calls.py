"""What the programs have in common: the server, and calls made one after the other, each told as a line of JSON."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import traceback
from collections.abc import Callable
from typing import Any

URL, MODEL, KEY = os.environ["GLMCORE_URL"], os.environ["GLMCORE_MODEL"], os.environ["GLMCORE_KEY"]
HELLO = "Hello! Who are you?"
ASKED = [{"role": "user", "content": HELLO}]
# A schema that an answer of any model ends with soon, and the same as parameters of a function.
COLOUR = {
    "type": "object", "additionalProperties": False, "required": ["colour", "count"],
    "properties": {
        "colour": {"type": "string", "enum": ["red", "green"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
    },
}  # fmt: skip
PAINT = {"name": "paint", "description": "Paints so many walls.", "parameters": COLOUR}
CALLS: list[Callable[[], Any]] = []


def call(function: Callable[[], Any]) -> Callable[[], Any]:
    CALLS.append(function)
    return function


def is_colour(value: Any) -> bool:
    return set(value) == {"colour", "count"} and value["colour"] in ("red", "green") and 0 <= value["count"] <= 99


def main() -> None:
    for function in CALLS:
        error = None
        try:
            outcome = function()
            if inspect.isawaitable(outcome):
                asyncio.run(waited(outcome))
        except Exception:
            error = traceback.format_exc(limit=-3)
        print(json.dumps({"call": function.__name__.replace("_", " "), "error": error}), flush=True)


async def waited(outcome: Any) -> Any:
    return await outcome
