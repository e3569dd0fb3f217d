"""The record of a model's shape."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glmcore.config.fields import config_path
from glmcore.config.foreign import refuse
from glmcore.config.generation import MODEL_TYPES, recognise
from glmcore.config.hf import Yarn
from glmcore.config.layouts import described
from glmcore.errors import GlmError
from glmcore.reading import read_json
from glmcore.traits import TRAITS, Traits

# Of embedding and head when a checkpoint is quantised while loading: a value errs by 1/220 of its row's largest.
TABLE_BITS = 8


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model. Sizes count values (not bytes), lengths count tokens."""

    generation: str
    num_layers: int
    hidden_size: int
    num_heads: int
    head_dim: int
    num_kv_heads: int
    ffn_hidden_size: int
    vocab_size: int
    max_length: int
    norm_eps: float
    rmsnorm: bool
    post_layer_norm: bool
    qkv_bias: bool
    linear_bias: bool
    multi_query: bool
    residual_post_norm: bool  # the residual is what the norm returns, not what it takes
    rotary_share: float  # of a head's values, the first ones: they turn with the position
    rope_ratio: float
    position_2d: bool
    tie_embeddings: bool
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    bos_token_id: int | None = None  # v1: <sop>
    mask_token_id: int | None = None  # v1: [MASK]
    gmask_token_id: int | None = None  # v1: [gMASK]
    yarn: Yarn | None = None
    quantization_bit: int = 0
    embedding_bits: int = 0  # embedding and head; 0: as the other floats
    pre_seq_len: int = 0
    prefix_projection: bool = False
    dtype: str = "float16"
    name: str = "chatglm"
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, folder: Path | None = None) -> ModelConfig:
        """The configuration that ``raw``, a parsed config.json, describes; ``folder`` helps to tell the generation.

        Errors: "config-invalid" for another kind of model, or for values that no model has.
        """
        if raw.get("model_type", "chatglm") not in MODEL_TYPES:
            raise refuse(raw, config_path(folder))
        return cls(**described(raw, recognise(raw, folder), folder))

    @classmethod
    def from_folder(cls, folder: str | Path) -> ModelConfig:
        """The configuration of the checkpoint in ``folder``.

        Errors: "model-path" for what is no folder, those of ``read_json`` for its config.json, and "config-invalid".
        """
        folder = Path(folder)
        if not os.path.isdir(folder):
            what = "is a file, not a folder" if os.path.exists(folder) else "does not exist"
            raise GlmError(
                "model-path", f"the model folder {what}", where=str(folder), hint="give a folder with config.json"
            )
        return cls.from_dict(read_json(folder / "config.json", "config-invalid"), folder=folder)

    @property
    def traits(self) -> Traits:
        """What the generation has beside these fields."""
        return TRAITS[self.generation]

    @property
    def turned(self) -> int:
        """How many values of a head the rotary embedding turns."""
        return int(self.head_dim * self.rotary_share)

    def quantised(self, bits: int) -> ModelConfig:
        """As quantised to ``bits`` while loading, embedding and head to int8; what is stored quantised stays so."""
        if not bits or self.quantization_bit:
            return self
        return replace(self, quantization_bit=bits, embedding_bits=TABLE_BITS)
