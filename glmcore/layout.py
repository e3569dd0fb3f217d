"""What a model consists of: its pieces and their tensors, with the names and shapes of the original files.

A piece is what sits on one device as a whole: "embedding", "layer.0", …, "final_norm", "lm_head". Where the files are
transformers' own (``Traits.files`` "hf"), ``parts`` says under which names they hold a tensor, whole or in rows.
Imports no torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
    kind: str = "float"  # or "packed", "scale"; by compressed-tensors "words" of 32 bits and their "shape", too
    optional: bool = False

    @property
    def values(self) -> int:
        """How many values it has, as stored: packed integers are counted in bytes."""
        return math.prod(self.shape)


Tensors = Iterator[tuple[str, Spec]]


@dataclass(frozen=True)
class Layout:
    """Where a generation's files keep the parts of the model."""

    embedding: str
    layers: str
    attention: str
    final_norm: str
    lm_head: str


LAYOUTS = {
    "glm1": Layout(
        "transformer.word_embeddings",
        "transformer.layers",
        "attention",
        "transformer.final_layernorm",
        "lm_head",
    ),
    "glm2": Layout(
        "transformer.embedding.word_embeddings",
        "transformer.encoder.layers",
        "self_attention",
        "transformer.encoder.final_layernorm",
        "transformer.output_layer",
    ),
}


def layout(config: ModelConfig) -> Layout:
    """How the modules of ``config`` are called: as the original's files."""
    return LAYOUTS[config.traits.modules]


@dataclass(frozen=True)
class Piece:
    """One piece of a model: the name of its module, which is that of the original files, and its tensors by name."""

    name: str
    module: str
    tensors: Mapping[str, Spec]

    @property
    def is_layer(self) -> bool:
        return self.name.startswith("layer.")

    @property
    def is_table(self) -> bool:
        """Whether it is an embedding or a head, which are quantised apart from the layers."""
        return self.name in ("embedding", "lm_head")


@functools.lru_cache(maxsize=32)
def pieces(config: ModelConfig) -> tuple[Piece, ...]:
    """Every piece of a model of ``config``, in the order of the forward pass."""
    return tuple(Piece(name, module, MappingProxyType(dict(tensors))) for name, module, tensors in _all(config))


def piece_names(config: ModelConfig) -> tuple[str, ...]:
    return tuple(piece.name for piece in pieces(config))


@functools.lru_cache(maxsize=8)
def expected(config: ModelConfig) -> Mapping[str, Spec]:
    """Every tensor that a checkpoint of ``config`` holds, by name."""
    return MappingProxyType({name: spec for piece in pieces(config) for name, spec in piece.tensors.items()})


@functools.lru_cache(maxsize=8)
def _holders(config: ModelConfig) -> Mapping[str, Piece]:
    return MappingProxyType({name: piece for piece in pieces(config) for name in piece.tensors})


def pieces_of_part(config: ModelConfig, first: int, last: int) -> tuple[str, ...]:
    """The pieces of the layers ``first`` to before ``last`` and of the model's ends that are beside them.

    A tied head is the embedding's own matrix: who has the last layer has both.
    """
    names = [f"layer.{index}" for index in range(first, last)]
    if first == 0 or (last == config.num_layers and config.tie_embeddings):
        names.insert(0, "embedding")
    after = piece_names(config)[config.num_layers + 1 :]
    return tuple(names) + (after if last == config.num_layers else ())


def piece_of(config: ModelConfig, tensor: str) -> Piece:
    """The piece that a tensor belongs to."""
    return _holders(config)[tensor]


def bits_of(config: ModelConfig, tensor: str) -> int:
    """The bits that a packed tensor has."""
    return config.embedding_bits if piece_of(config, tensor).is_table else config.quantization_bit


# How transformers' own files name what the modules hold; the fused projection lies there in three.
HF_NAMES = (
    ("transformer.embedding.word_embeddings.", "model.embed_tokens."), ("transformer.output_layer.", "lm_head."),
    ("transformer.encoder.final_layernorm.", "model.norm."), ("transformer.encoder.layers.", "model.layers."),
    (".self_attention.dense.", ".self_attn.o_proj."), (".mlp.dense_h_to_4h.", ".mlp.gate_up_proj."),
    (".mlp.dense_4h_to_h.", ".mlp.down_proj."),
)  # fmt: skip
FUSED, SPLIT = ".self_attention.query_key_value.", ("q_proj", "k_proj", "v_proj")


@functools.lru_cache(maxsize=8)
def parts(config: ModelConfig) -> Mapping[str, Mapping[str, Spec]]:
    """For every tensor of ``expected``: the files' own tensors that it consists of, one below the other, by name."""
    split = _parts_of_hf if config.traits.files == "hf" else lambda _, name, spec: {name: spec}
    return MappingProxyType({name: split(config, name, spec) for name, spec in expected(config).items()})


@functools.lru_cache(maxsize=8)
def in_files(config: ModelConfig) -> Mapping[str, Spec]:
    """Every tensor that the files of a checkpoint of ``config`` hold, by the name that it has there."""
    return MappingProxyType({name: spec for whole in parts(config).values() for name, spec in whole.items()})


def _parts_of_hf(config: ModelConfig, name: str, spec: Spec) -> dict[str, Spec]:
    for ours, theirs in HF_NAMES:
        name = name.replace(ours, theirs)
    rows = (config.num_heads * config.head_dim, *[config.num_kv_heads * config.head_dim] * 2)
    names = [name.replace(FUSED, f".self_attn.{part}.") for part in SPLIT] if FUSED in name else [name]
    found: dict[str, Spec] = {}
    for part, count in zip(names, rows if len(names) > 1 else spec.shape, strict=False):
        found |= _as_compressed(config, part, replace(spec, shape=(count, *spec.shape[1:])))
    return found


def _as_compressed(config: ModelConfig, name: str, spec: Spec) -> dict[str, Spec]:
    """As compressed-tensors keeps it: scales in a column, int4 in words of eight with the shape beside them."""
    if spec.kind == "scale":
        return {name: replace(spec, shape=(*spec.shape, 1))}
    if spec.kind != "packed" or config.quantization_bit == 8:
        return {name: spec}
    words = replace(spec, shape=(spec.shape[0], -(-spec.shape[1] // 4)), kind="words")
    return {f"{name}_packed": words, f"{name}_shape": Spec((2,), "shape", optional=True)}


def is_ignored(name: str) -> bool:
    return name.endswith(IGNORED) or name.startswith(OTHER_TASKS)


def qkv_rows(config: ModelConfig) -> int:
    """Output rows of the fused query, key and value projection."""
    return (config.num_heads + 2 * config.num_kv_heads) * config.head_dim


def mlp_rows(config: ModelConfig) -> int:
    """Output rows of the MLP's first projection: a gated one has two halves."""
    return config.ffn_hidden_size * (2 if config.traits.gated else 1)


def _all(config: ModelConfig) -> Iterator[tuple[str, str, Tensors]]:
    names = layout(config)
    table = functools.partial(_matrix, rows=config.vocab_size, columns=config.hidden_size, bits=config.embedding_bits)
    yield "embedding", names.embedding, table(names.embedding)
    for index in range(config.num_layers):
        module = f"{names.layers}.{index}"
        yield f"layer.{index}", module, _layer(config, module, names.attention)
    if config.post_layer_norm:
        yield "final_norm", names.final_norm, _norm(config, names.final_norm)
    head = ((name, replace(spec, optional=config.tie_embeddings)) for name, spec in table(names.lm_head))
    yield "lm_head", names.lm_head, head


def _layer(config: ModelConfig, layer: str, attention: str) -> Tensors:
    size, bits, heads = config.hidden_size, config.quantization_bit, config.num_heads * config.head_dim
    qkv_bias = config.qkv_bias or config.linear_bias
    yield from _norm(config, f"{layer}.input_layernorm")
    yield from _linear(f"{layer}.{attention}.query_key_value", qkv_rows(config), size, bits, qkv_bias)
    yield from _linear(f"{layer}.{attention}.dense", size, heads, bits, config.linear_bias)
    if config.traits.sandwich:
        yield from _norm(config, f"{layer}.post_self_attn_layernorm")
    yield from _norm(config, f"{layer}.post_attention_layernorm")
    yield from _linear(f"{layer}.mlp.dense_h_to_4h", mlp_rows(config), size, bits, config.linear_bias)
    yield from _linear(f"{layer}.mlp.dense_4h_to_h", size, config.ffn_hidden_size, bits, config.linear_bias)
    if config.traits.sandwich:
        yield from _norm(config, f"{layer}.post_mlp_layernorm")


def _linear(name: str, rows: int, columns: int, bits: int, bias: bool) -> Tensors:
    yield from _matrix(name, rows, columns, bits)
    if bias:
        yield f"{name}.bias", Spec((rows,))


def _matrix(name: str, rows: int, columns: int, bits: int) -> Tensors:
    if not bits:
        yield f"{name}.weight", Spec((rows, columns))
        return
    yield f"{name}.weight", Spec((rows, columns * bits // 8), "packed")
    yield f"{name}.weight_scale", Spec((rows,), "scale")


def _norm(config: ModelConfig, name: str) -> Tensors:
    yield f"{name}.weight", Spec((config.hidden_size,))
    if not config.rmsnorm:
        yield f"{name}.bias", Spec((config.hidden_size,))
