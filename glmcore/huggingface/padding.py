"""What a padded tokenizer call returns, as the original tokenizers of each generation have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.utils import PaddingStrategy

from glmcore.errors import GlmError
from glmcore.tokenizers import Tokenizer
from glmcore.traits import TRAITS


def pad_left(
    native: Tokenizer,
    encoded: dict[str, Any],
    max_length: int | None = None,
    padding_strategy: PaddingStrategy = PaddingStrategy.DO_NOT_PAD,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_attention_mask: bool | None = None,
) -> dict[str, Any]:
    """One row: ids padded on the left to ``max_length``, with a mask and positions.

    Errors: GlmError("usage") where the right side is asked for.
    """
    if padding_side == "right":
        raise GlmError("usage", "these models are padded on the left only", hint="leave padding_side as it is")
    ids = list(encoded["input_ids"])
    if padding_strategy == PaddingStrategy.LONGEST:
        max_length = len(ids)
    if max_length is not None and pad_to_multiple_of:
        max_length = -(-max_length // pad_to_multiple_of) * pad_to_multiple_of
    missing = 0
    if padding_strategy != PaddingStrategy.DO_NOT_PAD and max_length is not None:
        missing = max(0, max_length - len(ids))
    if not TRAITS[native.generation].causal:
        # A call on one text returns its ids alone: the model makes mask and positions itself.
        added = {} if max_length is None else _prefix_inputs(native, ids, missing)
    else:
        mask, positions = encoded.get("attention_mask", [1] * len(ids)), list(range(len(ids)))
        added = {"attention_mask": [0] * missing + list(mask), "position_ids": [0] * missing + positions}
    return {**encoded, "input_ids": [native.pad_token_id] * missing + ids, **added}


def _prefix_inputs(native: Tokenizer, ids: Sequence[int], missing: int) -> dict[str, Any]:
    """ChatGLM-6B's mask [1, S, S], True where a token must not look, and its positions [2, S].

    Unlike the model, the original's padding prefers [MASK] to [gMASK]."""
    size = len(ids)
    context = ids.index(native.special["<sop>"]) if native.special["<sop>"] in ids else size
    mask = np.triu(np.ones((1, size, size), dtype=bool), k=1)
    mask[:, :, :context] = False
    positions = np.stack([np.arange(size), np.maximum(np.arange(size) - context + 1, 0)])
    for name in ("[MASK]", "[gMASK]"):
        if native.special[name] in ids:
            positions[0, context:] = ids.index(native.special[name])
            break
    left = (missing, 0)
    return {
        "attention_mask": np.pad(mask, [(0, 0), left, left], constant_values=True),
        "position_ids": np.pad(positions, [(0, 0), left]),
    }
