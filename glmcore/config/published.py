"""The published models by name: their shapes are known without a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmcore.config.foreign import foreign_name
from glmcore.config.model import ModelConfig
from glmcore.errors import GlmError, plain


def _published(name: str, overrides: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig.from_dict({"model_type": "chatglm", "_name_or_path": f"THUDM/{name}", **overrides})


_CHATGLM2 = {"seq_length": 32768, "add_qkv_bias": True, "multi_query_attention": True, "multi_query_group_num": 2}
_GLM4 = {
    **_CHATGLM2, "num_layers": 40, "padded_vocab_size": 151552, "layernorm_epsilon": 1.5625e-07, "seq_length": 131072,
    "torch_dtype": "bfloat16", "eos_token_id": [151329, 151336, 151338], "pad_token_id": 151329, "rope_ratio": 500,
}  # fmt: skip

# Those that transformers has classes for; what is missing has the value that GlmConfig gives it (``config.hf``).
_HF = {"model_type": "glm", "max_position_embeddings": 131072, "rope_theta": 5e6}
_EDGE = {
    "model_type": "glm", "vocab_size": 59264, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    "attention_bias": False, "partial_rotary_factor": 1.0, "tie_word_embeddings": True,
    "eos_token_id": [59246, 59253, 59255], "pad_token_id": 59246,
}  # fmt: skip
_0414 = {
    "model_type": "glm4", "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
    "eos_token_id": [151329, 151336, 151338],
}  # fmt: skip
_32B = {
    **_0414, "hidden_size": 6144, "intermediate_size": 23040, "num_hidden_layers": 61, "num_attention_heads": 48,
    "attention_bias": False,
}  # fmt: skip

_PUBLISHED: dict[str, dict[str, Any]] = {
    "chatglm-6b": {
        "vocab_size": 130528, "inner_hidden_size": 16384, "max_sequence_length": 2048, "bos_token_id": 130004,
        "eos_token_id": 130005, "mask_token_id": 130000, "gmask_token_id": 130001, "pad_token_id": 3,
    },
    "chatglm2-6b": _CHATGLM2,
    "chatglm2-6b-32k": {**_CHATGLM2, "rope_ratio": 16},
    "chatglm3-6b": {**_CHATGLM2, "seq_length": 8192},
    "chatglm3-6b-32k": {**_CHATGLM2, "rope_ratio": 50},
    "chatglm3-6b-128k": {**_CHATGLM2, "seq_length": 131072, "rope_ratio": 500},
    "codegeex2-6b": {**_CHATGLM2, "seq_length": 8192},
    "glm-4-9b": {**_GLM4, "seq_length": 8192, "rope_ratio": 1},
    "glm-4-9b-chat": _GLM4,
    "glm-4-9b-chat-1m": {**_GLM4, "seq_length": 1048576, "rope_ratio": 10000, "multi_query_group_num": 4},
    "glm-4-9b-hf": {**_HF, "max_position_embeddings": 8192, "rope_theta": 1e4},
    "glm-4-9b-chat-hf": _HF,
    "glm-4-9b-chat-1m-hf": {**_HF, "max_position_embeddings": 1048576, "rope_theta": 1e8, "num_key_value_heads": 4},
    "glm-edge-1.5b-chat": _EDGE,
    "glm-edge-4b-chat": {
        **_EDGE, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 40, "num_attention_heads": 24,
        "num_key_value_heads": 6,
    },
    "glm-4-9b-0414": _0414,
    "glm-z1-9b-0414": _0414,
    "glm-4-32b-0414": _32B,
    "glm-z1-32b-0414": _32B,
}  # fmt: skip
NAMED: dict[str, ModelConfig] = {name: _published(name, raw) for name, raw in _PUBLISHED.items()}


def find_config(model: str | Path) -> ModelConfig:
    """The configuration of a checkpoint folder, or of a published model by its name ("THUDM/chatglm2-6b-int4").

    Errors: "model-path" for what is neither, and those of ``ModelConfig.from_folder``.
    """
    if os.path.isdir(model):
        return ModelConfig.from_folder(model)
    name = str(model).rstrip("/").rpartition("/")[2].lower()
    base, _, bits = name.removesuffix("-qe").partition("-int")
    if base not in NAMED or bits not in ("", "4", "8"):
        raise foreign_name(name) or GlmError(
            "model-path",
            f"{plain(str(model), 200)} is neither a folder nor a known name",
            hint=f"known: {', '.join(NAMED)}",
        )
    packed = int(bits or 0)
    return replace(
        NAMED[base], name=name, quantization_bit=packed, embedding_bits=packed if name.endswith("-qe") else 0
    )
