"""How the files spell a configuration: which key says what, and what a missing one means; the originals' are here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from glmcore.config import hf
from glmcore.config.fields import Fields
from glmcore.config.generation import TABLES_KEY
from glmcore.errors import GlmError, plain
from glmcore.traits import TRAITS

# What the original configuration classes assume for a key that config.json leaves out.
GLM1_DEFAULTS: dict[str, Any] = {
    "vocab_size": 150528, "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "layernorm_epsilon": 1e-5,
    "inner_hidden_size": 16384, "max_sequence_length": 2048, "position_encoding_2d": True, "bos_token_id": 150004,
    "eos_token_id": 150005, "mask_token_id": 150000, "gmask_token_id": 150001, "pad_token_id": 0,
    "tie_word_embeddings": True,
}  # fmt: skip
GLM2_DEFAULTS: dict[str, Any] = {
    "num_layers": 28, "padded_vocab_size": 65024, "hidden_size": 4096, "ffn_hidden_size": 13696, "kv_channels": 128,
    "num_attention_heads": 32, "seq_length": 2048, "layernorm_epsilon": 1e-5, "rmsnorm": True,
    "apply_residual_connection_post_layernorm": False, "post_layer_norm": True, "add_bias_linear": False,
    "add_qkv_bias": False, "multi_query_attention": False, "multi_query_group_num": 1, "rope_ratio": 1,
    "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip


def described(raw: Mapping[str, Any], generation: str, folder: Path | None = None) -> dict[str, Any]:
    """The fields of ``ModelConfig`` that ``raw``, a config.json of that generation, gives.

    Errors: "config-invalid", which names the key.
    """
    defaults, read = READERS[TRAITS[generation].files]
    fields = Fields(raw, defaults, folder)
    found = {**read(fields), "name": _name(fields), "generation": generation, "raw": dict(raw)}
    _check_heads(found["head_dim"], int(found["head_dim"] * found["rotary_share"]), fields.where)
    return found


def _common(fields: Fields) -> dict[str, Any]:
    """The fields that every original layout has under the same key."""
    bits = fields.integer("quantization_bit", 0, 8, _default_bits(_name(fields)))
    if bits not in (0, 4, 8):
        raise fields.error("quantization_bit", bits, "0, 4 or 8")
    tables = fields.integer(TABLES_KEY, 0, 8, bits if fields.flag("quantization_embeddings") else 0)
    if tables not in (0, 4, 8):
        raise fields.error(TABLES_KEY, tables, "0, 4 or 8")
    return {
        "num_layers": fields.layers(),
        "hidden_size": fields.integer("hidden_size", 4, 1 << 17),
        "num_heads": fields.integer("num_attention_heads", 1, 1 << 12),
        "norm_eps": fields.number("layernorm_epsilon", 1e-12, 1.0),
        "quantization_bit": bits,
        "embedding_bits": tables,
        "pre_seq_len": fields.integer("pre_seq_len", 0, 1 << 20, 0),
        "prefix_projection": fields.flag("prefix_projection"),
        "tie_embeddings": fields.flag("tie_word_embeddings"),
        "dtype": fields.dtype(),
    }


def _name(fields: Fields) -> str:
    """The model's name: the last part of the path that it was saved under, else of its folder."""
    own = Path(os.path.realpath(fields.folder)) if fields.folder else Path("chatglm")
    if own.parent.name == "snapshots":  # in the hub's cache: models--OWNER--NAME/snapshots/REVISION
        own = Path(own.parent.parent.name.rpartition("--")[2])
    return plain(Path(str(fields.value("_name_or_path", ""))).name or own.name, 100)


def _default_bits(name: str) -> int:
    """ChatGLM3-6B-32k's int4 release leaves the key out: its configuration class assumes 4."""
    return 4 if re.search(r"chatglm3-6b-32k-int4", name, re.IGNORECASE) else 0


def _check_heads(head_dim: int, turned: int, where: str) -> None:
    """The rotary embedding turns pairs within a head or its half (ChatGLM-6B's within each half)."""
    if head_dim % 4:
        raise GlmError("config-invalid", f"the head dimension {head_dim} is not a multiple of 4", where=where)
    if turned % 2 or not turned:
        raise GlmError("config-invalid", f"{turned} values of a head turn, which are no pairs", where=where)


def _glm1(fields: Fields) -> dict[str, Any]:
    hidden, heads = fields.integer("hidden_size", 4, 1 << 17), fields.integer("num_attention_heads", 1, 1 << 12)
    vocabulary = fields.integer("vocab_size", 1, 1 << 24)
    if hidden % heads:
        raise fields.error("num_attention_heads", heads, f"a divisor of hidden_size {hidden}")
    return {
        **_common(fields),
        "head_dim": hidden // heads,
        "rotary_share": 1.0,
        "num_kv_heads": heads,
        "ffn_hidden_size": fields.integer("inner_hidden_size", 1, 1 << 20),
        "vocab_size": vocabulary,
        "max_length": fields.integer("max_sequence_length", 1, 1 << 30),
        "rmsnorm": False, "post_layer_norm": True, "qkv_bias": True, "linear_bias": True, "multi_query": False,
        "residual_post_norm": True, "rope_ratio": 1.0,
        "position_2d": fields.flag("position_encoding_2d"),
        "eos_token_ids": fields.tokens("eos_token_id", vocabulary),
        "pad_token_id": fields.token("pad_token_id", vocabulary),
        "bos_token_id": fields.token("bos_token_id", vocabulary),
        "mask_token_id": fields.token("mask_token_id", vocabulary),
        "gmask_token_id": fields.token("gmask_token_id", vocabulary),
    }  # fmt: skip


def _glm2(fields: Fields) -> dict[str, Any]:
    heads = fields.integer("num_attention_heads", 1, 1 << 12)
    vocabulary = fields.integer("padded_vocab_size", 1, 1 << 24)
    multi_query = fields.flag("multi_query_attention")
    groups = fields.integer("multi_query_group_num", 1, 1 << 12)
    if multi_query and heads % groups:
        raise fields.error("multi_query_group_num", groups, f"a divisor of num_attention_heads {heads}")
    return {
        **_common(fields),
        "head_dim": fields.integer("kv_channels", 4, 1 << 12),
        "rotary_share": 0.5,
        "num_kv_heads": groups if multi_query else heads,
        "ffn_hidden_size": fields.integer("ffn_hidden_size", 1, 1 << 20),
        "vocab_size": vocabulary,
        "max_length": fields.integer("seq_length", 1, 1 << 30),
        "rmsnorm": fields.flag("rmsnorm"),
        "post_layer_norm": fields.flag("post_layer_norm"),
        "qkv_bias": fields.flag("add_qkv_bias"),
        "linear_bias": fields.flag("add_bias_linear"),
        "multi_query": multi_query,
        "residual_post_norm": fields.flag("apply_residual_connection_post_layernorm"),
        "rope_ratio": fields.number("rope_ratio", 1e-3, 1e9),
        "position_2d": False,
        "eos_token_ids": fields.tokens("eos_token_id", vocabulary),
        "pad_token_id": fields.token("pad_token_id", vocabulary),
    }


# By the spelling of the files (``Traits.files``): what a missing key means, and what reads the others.
READERS: dict[str, tuple[Mapping[str, Any], Callable[[Fields], dict[str, Any]]]] = {
    "glm1": (GLM1_DEFAULTS, _glm1),
    "glm2": (GLM2_DEFAULTS, _glm2),
    "hf": (hf.DEFAULTS, hf.read),
}
