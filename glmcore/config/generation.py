"""Which generation a ``config.json`` describes.

Files that transformers' own classes read say ``"model_type": "glm"`` or ``"glm4"``: of the first, GLM-Edge turns the
whole of a head; of the second, GLM-Z1's chat template opens ``<think>``. The original files all say ``"chatglm"``, and
the first of these decides that speaks:

0. ``glmcore_generation``, which glmcore itself writes;
1. a key that only ChatGLM-6B has: v1;
2. the vocabulary of the real models: 151552 is glm4, 65024 leaves v2 and v3;
3. the model's name, the last one in ``_name_or_path``: ``chatglm-6b``, ``chatglm2`` or ``codegeex2``, ``chatglm3``,
   ``glm-4``;
4. the tokenizer in the folder: tiktoken ranks are glm4; sentencepiece with role tokens is v3; the class and name in
   ``tokenizer_config.json``;
5. the folder's own name;
6. several end tokens: glm4, or v3 where the vocabulary is 65024;
7. ``transformers_version`` as published: 4.30.2 is v3, 4.40 and later glm4; what is left is v2.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmcore.reading import open_regular
from glmcore.traits import ORIGINAL, TRAITS

MODEL_TYPES = ("chatglm", "glm", "glm4")
GENERATION_KEY = "glmcore_generation"
# The bits of embedding and head where they are packed otherwise than the layers, which the original has no key for.
TABLES_KEY = "glmcore_table_bits"
V1_KEYS = ("inner_hidden_size", "position_encoding_2d", "max_sequence_length", "gmask_token_id")

NAME_PATTERNS = {
    "v1": r"chatglm-6b",
    "v2": r"chatglm2|codegeex2",
    "v3": r"chatglm3",
    "glm4": r"glm-?4|codegeex4",
}


def recognise(raw: Mapping[str, Any], folder: Path | None = None) -> str:
    """The generation, by the order in this module's head; ``folder`` is where ``raw`` lies."""
    if raw.get(GENERATION_KEY) in TRAITS:
        return str(raw[GENERATION_KEY])
    if raw.get("model_type") in MODEL_TYPES[1:]:
        return _of_transformers(raw, folder)
    if "padded_vocab_size" not in raw and any(key in raw for key in V1_KEYS):
        return "v1"
    vocabulary = raw.get("padded_vocab_size")
    if vocabulary == 151552:
        return "glm4"
    # Without any shape (a folder that holds a tokenizer alone) it may still be v1.
    allowed = ("v2", "v3") if vocabulary == 65024 else ORIGINAL[1:] if "hidden_size" in raw else ORIGINAL
    voices = (
        _generation_in(str(raw.get("_name_or_path", ""))),
        _generation_of_tokenizer(folder) if folder else None,
        _generation_in(str(os.path.realpath(folder))) if folder else None,
        _generation_of_end_tokens(raw, allowed),
        _generation_of_release(str(raw.get("transformers_version", ""))),
    )
    return next((voice for voice in voices if voice is not None and voice in allowed), "v2")


def _of_transformers(raw: Mapping[str, Any], folder: Path | None) -> str:
    """Of the models that have classes of transformers' own."""
    if raw["model_type"] == "glm":
        rope = raw.get("rope_parameters")
        share = (rope if isinstance(rope, Mapping) else raw).get("partial_rotary_factor", 0.5)
        return "glm-edge" if share == 1 else "glm4-hf"
    templates = ("chat_template.jinja", "tokenizer_config.json")
    template = b"".join(_head(folder / name, 1 << 20) for name in templates) if folder else b""
    if b"<|assistant|>" in template:
        return "glm-z1" if b"<think>" in template else "glm4-0414"
    named = f"{raw.get('_name_or_path', '')} {os.path.realpath(folder) if folder else ''}"
    return "glm-z1" if re.search(r"glm-?z1", named, re.IGNORECASE) else "glm4-0414"


def _generation_in(text: str) -> str | None:
    """The generation whose name comes last in ``text``: parent folders may name others."""
    found = [
        (match.end(), generation)
        for generation, pattern in NAME_PATTERNS.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    return max(found)[1] if found else None


def _generation_of_tokenizer(folder: Path) -> str | None:
    if os.path.exists(folder / "ice_text.model"):
        return "v1"
    head = _head(folder / "tokenizer.model", 64)
    if re.match(rb"[A-Za-z0-9+/=]+ \d+\n", head):  # a line of tiktoken ranks
        return "glm4"
    described = _head(folder / "tokenizer_config.json", 1 << 16) + _head(folder / "tokenization_chatglm.py", 1 << 16)
    if b"ChatGLM4Tokenizer" in described:
        return "glm4"
    if b"<|observation|>" in described:
        return "v3"
    named = _generation_in(described.decode("utf-8", "replace"))
    # ChatGLM2-6B's own tokenizer_config.json names ChatGLM-6B, whose tokenizer is another file.
    return "v2" if named == "v1" else named


def _head(path: Path, limit: int) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(limit)
    except OSError:
        return b""


def _generation_of_end_tokens(raw: Mapping[str, Any], allowed: tuple[str, ...]) -> str | None:
    return allowed[-1] if isinstance(raw.get("eos_token_id"), list) else None


def _generation_of_release(version: str) -> str | None:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    release = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if release >= (4, 40):
        return "glm4"
    return "v3" if release == (4, 30) else None
