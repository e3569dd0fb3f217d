"""The tensors that a configuration asks for, with the names and shapes of the original files. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from glmcore.config import ModelConfig

# Tensors that the original files carry and no model needs: rotary frequencies are computed.
IGNORED = ("rotary_emb.inv_freq", "rotary_pos_emb.inv_freq")
# Adapters and heads of other tasks, which may lie beside the model's own tensors.
OTHER_TASKS = ("transformer.prefix_encoder.", "classifier_head.")


@dataclass(frozen=True)
class Spec:
    """What a tensor has to be: its shape as stored, and whether it is packed integers, a scale or a plain float."""

    shape: tuple[int, ...]
    kind: str = "float"  # "float", "packed", "scale"
    optional: bool = False


@dataclass(frozen=True)
class Layout:
    """Where a generation's files keep the parts of the model."""

    embedding: str
    layers: str
    attention: str
    final_norm: str
    lm_head: str


LAYOUT_V1 = Layout(
    "transformer.word_embeddings", "transformer.layers", "attention", "transformer.final_layernorm", "lm_head"
)
LAYOUT_GLM2 = Layout(
    "transformer.embedding.word_embeddings",
    "transformer.encoder.layers",
    "self_attention",
    "transformer.encoder.final_layernorm",
    "transformer.output_layer",
)


def layout(config: ModelConfig) -> Layout:
    return LAYOUT_V1 if config.generation == "v1" else LAYOUT_GLM2


@functools.lru_cache(maxsize=8)
def expected(config: ModelConfig) -> Mapping[str, Spec]:
    """Every tensor that a checkpoint of ``config`` holds, by name."""
    return MappingProxyType(dict(_all(config)))


def is_ignored(name: str) -> bool:
    return name.endswith(IGNORED) or name.startswith(OTHER_TASKS)


def _all(config: ModelConfig) -> Iterator[tuple[str, Spec]]:
    parts, size = layout(config), config.hidden_size
    yield from _matrix(parts.embedding, config.vocab_size, size, config.embedding_bits)
    for index in range(config.num_layers):
        yield from _layer(config, f"{parts.layers}.{index}", parts.attention)
    if config.post_layer_norm:
        yield from _norm(config, parts.final_norm)
    for name, spec in _matrix(parts.lm_head, config.vocab_size, size, config.embedding_bits):
        yield name, Spec(spec.shape, spec.kind, optional=config.tie_embeddings)


def _layer(config: ModelConfig, layer: str, attention: str) -> Iterator[tuple[str, Spec]]:
    size, inner, bits = config.hidden_size, config.ffn_hidden_size, config.quantization_bit
    heads = config.num_heads * config.head_dim
    fused = heads + 2 * config.num_kv_heads * config.head_dim
    wide = inner if config.generation == "v1" else 2 * inner
    yield from _norm(config, f"{layer}.input_layernorm")
    yield from _linear(f"{layer}.{attention}.query_key_value", fused, size, bits, config.qkv_bias or config.linear_bias)
    yield from _linear(f"{layer}.{attention}.dense", size, heads, bits, config.linear_bias)
    yield from _norm(config, f"{layer}.post_attention_layernorm")
    yield from _linear(f"{layer}.mlp.dense_h_to_4h", wide, size, bits, config.linear_bias)
    yield from _linear(f"{layer}.mlp.dense_4h_to_h", size, inner, bits, config.linear_bias)


def _linear(name: str, rows: int, columns: int, bits: int, bias: bool) -> Iterator[tuple[str, Spec]]:
    yield from _matrix(name, rows, columns, bits)
    if bias:
        yield f"{name}.bias", Spec((rows,))


def _matrix(name: str, rows: int, columns: int, bits: int) -> Iterator[tuple[str, Spec]]:
    if not bits:
        yield f"{name}.weight", Spec((rows, columns))
        return
    yield f"{name}.weight", Spec((rows, columns * bits // 8), "packed")
    yield f"{name}.weight_scale", Spec((rows,), "scale")


def _norm(config: ModelConfig, name: str) -> Iterator[tuple[str, Spec]]:
    yield f"{name}.weight", Spec((config.hidden_size,))
    if not config.rmsnorm:
        yield f"{name}.bias", Spec((config.hidden_size,))


def bits_of(config: ModelConfig, name: str) -> int:
    """The bits that a packed tensor has."""
    return config.embedding_bits if is_table(config, name) else config.quantization_bit


def is_table(config: ModelConfig, name: str) -> bool:
    """Whether a tensor belongs to embedding or head."""
    return piece_of(config, name) in ("embedding", "lm_head")


def piece_of(config: ModelConfig, name: str) -> str:
    """The piece of a plan that a tensor belongs to: "embedding", "layer.0", …, "final_norm", "lm_head"."""
    parts = layout(config)
    if name.startswith(f"{parts.layers}."):
        return f"layer.{name.removeprefix(f'{parts.layers}.').partition('.')[0]}"
    pieces = {parts.embedding: "embedding", parts.final_norm: "final_norm", parts.lm_head: "lm_head"}
    return pieces[name.rpartition(".")[0]]
