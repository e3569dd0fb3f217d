"""How transformers spells the configuration of its own GLM classes: GlmForCausalLM and Glm4ForCausalLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmcore.config.fields import Fields
from glmcore.errors import GlmError, plain

# What GlmConfig and Glm4Config assume for a key that config.json leaves out.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "hidden_act": "silu",
    "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-07, "tie_word_embeddings": False,
    "attention_bias": True, "pad_token_id": 151329, "eos_token_id": [151329, 151336, 151338], "dtype": "bfloat16",
}  # fmt: skip
# Of the rotary embedding; YaRN's by https://arxiv.org/abs/2309.00071 as transformers' modeling_rope_utils.py has them.
ROPE_DEFAULTS: dict[str, Any] = {
    "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": True,
}  # fmt: skip
BASE = 10000.0


@dataclass(frozen=True)
class Yarn:
    """YaRN: slow rotations are stretched by ``factor``, fast ones kept, and ``amplitude`` scales cosines and sines."""

    factor: float
    original_length: int  # tokens that the model was trained on
    beta_fast: float = 32.0  # turns within that length above which a rotation is kept
    beta_slow: float = 1.0  # below which it is stretched whole
    amplitude: float | None = None  # None: by the paper, 0.1 ln(factor) + 1
    truncate: bool = True  # the two bounds are widened to whole dimensions


def read(fields: Fields) -> dict[str, Any]:
    """The fields of ``ModelConfig``, all of them, but for what ``described`` adds.

    Errors: GlmError("config-invalid").
    """
    vocabulary = fields.integer("vocab_size", 1, 1 << 24)
    heads, groups = fields.integer("num_attention_heads", 1, 1 << 12), fields.integer("num_key_value_heads", 1, 1 << 12)
    if heads % groups:
        raise fields.error("num_key_value_heads", groups, f"a divisor of num_attention_heads {heads}")
    if (act := fields.value("hidden_act")) != "silu":
        raise fields.error("hidden_act", act, "'silu'")
    return {
        "num_layers": fields.integer("num_hidden_layers", 1, 1000),
        "hidden_size": fields.integer("hidden_size", 4, 1 << 17),
        "num_heads": heads,
        "head_dim": fields.integer("head_dim", 4, 1 << 12),
        "num_kv_heads": groups,
        "ffn_hidden_size": fields.integer("intermediate_size", 1, 1 << 20),
        "vocab_size": vocabulary,
        "norm_eps": fields.number("rms_norm_eps", 1e-12, 1.0),
        "rmsnorm": True, "post_layer_norm": True, "linear_bias": False, "multi_query": True,
        "residual_post_norm": False, "position_2d": False,
        "qkv_bias": fields.flag("attention_bias"),
        "tie_embeddings": fields.flag("tie_word_embeddings"),
        "eos_token_ids": fields.tokens("eos_token_id", vocabulary),
        "pad_token_id": fields.token("pad_token_id", vocabulary),
        "dtype": fields.dtype(),
        "quantization_bit": stored_bits(fields),
        **_rotary(fields),
    }  # fmt: skip


def _rotary(fields: Fields) -> dict[str, Any]:
    """transformers 5 keeps the rotary embedding's values together, 4 kept them among the others, beside YaRN's."""
    scaling = _table(fields, "rope_parameters") or _table(fields, "rope_scaling")
    rope = Fields({**fields.raw, **scaling}, ROPE_DEFAULTS, fields.folder)
    yarn = _yarn(rope, scaling.get("rope_type", scaling.get("type", "default")))
    trained = fields.integer("max_position_embeddings", 1, 1 << 30)
    return {
        # YaRN is switched on by its values alone: max_position_embeddings stays what the model was trained on.
        "max_length": trained if yarn is None else max(trained, int(yarn.factor * yarn.original_length)),
        "rotary_share": rope.number("partial_rotary_factor", 1 / (1 << 12), 1.0),
        "rope_ratio": rope.number("rope_theta", 1.0, 1e13) / BASE,
        "yarn": yarn,
    }


def _table(fields: Fields, key: str) -> Mapping[str, Any]:
    value = fields.value(key, {})
    if not isinstance(value, Mapping):
        raise fields.error(key, value, "a table of the rotary embedding's values")
    return value


def _yarn(rope: Fields, kind: object) -> Yarn | None:
    if kind == "default":
        return None
    if kind != "yarn":
        raise rope.error("rope_type", kind, "'default' or 'yarn'")
    for key in ("mscale", "mscale_all_dim"):
        if rope.value(key) is not None:
            raise rope.error(key, rope.value(key), "left out: no GLM has it")
    amplitude = rope.value("attention_factor")
    return Yarn(
        factor=rope.number("factor", 1.0, 1e6),
        original_length=rope.integer("original_max_position_embeddings", 1, 1 << 30),
        beta_fast=rope.number("beta_fast", 1e-3, 1e6),
        beta_slow=rope.number("beta_slow", 1e-3, 1e6),
        amplitude=None if amplitude is None else rope.number("attention_factor", 1e-3, 1e3),
        truncate=rope.flag("truncate"),
    )


def stored_bits(fields: Fields) -> int:
    """The bits of matrices that are stored packed, 0 where none are: as compressed-tensors writes one scale a row.

    https://github.com/vllm-project/compressed-tensors: formats "pack-quantized" (int4) and "int-quantized" (int8).
    Errors: GlmError("config-invalid") for other ways to quantise.
    """
    stated = fields.value("quantization_config")
    if stated is None:
        return 0
    groups = stated.get("config_groups") if isinstance(stated, Mapping) else None
    schemes = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = schemes[0].get("weights") if len(schemes) == 1 and isinstance(schemes[0], Mapping) else None
    if isinstance(weights, Mapping) and stated.get("quant_method") == "compressed-tensors":
        wanted = {"type": "int", "symmetric": True, "strategy": "channel"}
        bits = {"pack-quantized": 4, "int-quantized": 8}.get(str(stated.get("format")))
        plainly = all(weights.get(key) == value for key, value in wanted.items())
        if bits is not None and weights.get("num_bits") == bits and plainly and not schemes[0].get("input_activations"):
            return bits
    method = stated.get("quant_method") if isinstance(stated, Mapping) else stated
    raise GlmError(
        "config-invalid", f"the weights are quantised by {plain(repr(method), 40)} in a way that is not read",
        where=fields.where, hint="get the model's unquantised checkpoint: glmcore quantises it itself (--quant int4)",
    )  # fmt: skip


def quantization_config(bits: int) -> dict[str, Any]:
    """What config.json says of matrices of ``bits`` with one scale a row, for transformers with compressed-tensors."""
    weights = {
        "num_bits": bits, "type": "int", "symmetric": True, "strategy": "channel", "group_size": None, "dynamic": False,
        "block_structure": None, "actorder": None, "observer": "minmax", "observer_kwargs": {},
    }  # fmt: skip
    kind = "pack-quantized" if bits == 4 else "int-quantized"
    group = {"weights": weights, "input_activations": None, "output_activations": None, "targets": ["Linear"]}
    return {
        "quant_method": "compressed-tensors", "format": kind, "quantization_status": "compressed",
        "config_groups": {"group_0": {**group, "format": kind}}, "ignore": ["lm_head"], "kv_cache_scheme": None,
    }  # fmt: skip
