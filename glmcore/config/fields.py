"""Checked values out of a ``config.json``: what is absurd is refused by the name of its key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmcore.errors import GlmError, plain

DTYPES = ("float16", "bfloat16", "float32")


def config_path(folder: Path | None) -> str:
    """How an error names the file."""
    return str(folder / "config.json") if folder else "config.json"


class Fields:
    """A config.json's values, checked as they are asked for; ``folder`` is where it lies.

    Every method raises "config-invalid", with the key and what it should be, for a value that cannot be meant.
    """

    def __init__(self, raw: Mapping[str, Any], defaults: Mapping[str, Any], folder: Path | None = None) -> None:
        self.raw, self.defaults, self.folder = raw, defaults, folder
        self.where = config_path(folder)

    def value(self, key: str, default: Any = None) -> Any:
        found = self.raw.get(key)
        return self.defaults.get(key, default) if found is None else found

    def error(self, key: str, value: object, wanted: str) -> GlmError:
        return GlmError(
            "config-invalid",
            f"{key} is {plain(repr(value), 40)}, not {wanted}",
            where=self.where,
            hint="restore the original config.json",
        )

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self.value(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not low <= value <= high
            or math.isnan(value)
        ):
            raise self.error(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def layers(self) -> int:
        key = "num_layers" if "num_layers" in self.raw or "num_hidden_layers" not in self.raw else "num_hidden_layers"
        return self.integer(key, 1, 1000)

    def tokens(self, key: str, vocabulary: int) -> tuple[int, ...]:
        value = self.value(key)
        ids = value if isinstance(value, list) else [value]
        if not ids or not all(type(i) is int and 0 <= i < vocabulary for i in ids):
            raise self.error(key, value, f"a token id (or a list of them) below {vocabulary}")
        return tuple(ids)

    def token(self, key: str, vocabulary: int) -> int:
        return self.tokens(key, vocabulary)[0]

    def dtype(self) -> str:
        key = "torch_dtype" if "torch_dtype" in self.raw else "dtype"
        value = self.value(key, "float16")
        name = str(value).removeprefix("torch.")  # transformers puts the type itself there
        if name not in DTYPES:
            raise self.error(key, value, f"one of {', '.join(DTYPES)}")
        return name
