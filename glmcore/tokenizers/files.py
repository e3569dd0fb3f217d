"""Finds a tokenizer's file and tells a missing, replaced or foreign one apart before a library chokes on it."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from glmcore.errors import GlmError
from glmcore.reading import open_regular, read_bytes
from glmcore.traits import TRAITS

NAMES = {
    "v1": "ice_text.model",
    **dict.fromkeys(("v2", "v3", "glm4"), "tokenizer.model"),
    **{name: "tokenizer.json" for name, row in TRAITS.items() if row.files == "hf"},
}
# Those whose file is a list of tiktoken ranks; the others' is a sentencepiece model, or JSON by its name.
RANKED = ("glm4",)
FETCH = "download the file that was published with this checkpoint"
LFS = b"version https://git-lfs"
LIMIT = 64 << 20  # bytes; GLM-4's have 2.7 MB, as tokenizer.json 20 MB


def tokenizer_file(folder: Path, generation: str) -> Path:
    """The path of the generation's tokenizer file, after a look at its first bytes.

    Errors: GlmError("usage") for an unknown generation, GlmError("tokenizer-missing", "tokenizer-damaged",
    "tokenizer-mismatch").
    """
    if generation not in NAMES:
        raise GlmError("usage", f"unknown generation {generation!r}", hint=f"use one of {', '.join(NAMES)}")
    path = folder / NAMES[generation]
    try:
        with open_regular(path) as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise _missing(folder, generation) from None
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    _look(path, head, generation)
    return path


def content(path: Path) -> bytes:
    """The whole of a tokenizer's file. Errors: GlmError("tokenizer-damaged")."""
    try:
        return read_bytes(path, LIMIT)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def damaged(path: Path, reason: str) -> GlmError:
    return GlmError("tokenizer-damaged", f"the tokenizer cannot be read: {reason}", where=str(path), hint=FETCH)


def foreign(path: Path, generation: str) -> GlmError:
    what = f"this is not the tokenizer of the generation {generation} that config.json names"
    return GlmError("tokenizer-mismatch", what, where=str(path), hint=FETCH)


def _missing(folder: Path, generation: str) -> GlmError:
    for name in sorted(set(NAMES.values()) - {NAMES[generation]}):
        if os.path.exists(folder / name):
            return foreign(folder / name, generation)
    return GlmError("tokenizer-missing", f"{NAMES[generation]} is not there", where=str(folder), hint=FETCH)


def _look(path: Path, head: bytes, generation: str) -> None:
    if head.startswith(LFS):
        raise GlmError(
            "checkpoint-lfs-pointer",
            "a Git LFS pointer lies in place of the tokenizer",
            where=str(path),
            hint="run `git lfs pull` in that folder",
        )
    if not head:
        raise damaged(path, "it is empty")
    if head.lstrip()[:1] == b"<":
        raise damaged(path, "it is a web page")
    if NAMES[generation].endswith(".json") and head.lstrip()[:1] != b"{":
        raise damaged(path, "it is no JSON")
    if is_rank_file(head) != (generation in RANKED):
        raise foreign(path, generation)


def is_rank_file(head: bytes) -> bool:
    """Whether a file begins like a tiktoken rank file: lines of ``base64 rank``."""
    first = head.split(b"\n", 1)[0].split()
    if len(first) != 2 or not first[1].isdigit():
        return False
    try:
        return bool(base64.b64decode(first[0], validate=True))
    except binascii.Error:
        return False
