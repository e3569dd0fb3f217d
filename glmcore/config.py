"""One configuration for the four generations, read from the original ``config.json``. Imports no torch.

Which generation a ``config.json`` describes is decided by the first of these that speaks (the files all say
``"model_type": "chatglm"``):

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

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glmcore.errors import GlmError, plain
from glmcore.reading import JSON_LIMIT, open_regular, parse_json, read_bytes
from glmcore.traits import TRAITS, Traits

GENERATIONS = tuple(TRAITS)
DTYPES = ("float16", "bfloat16", "float32")
GENERATION_KEY = "glmcore_generation"
# Of embedding and head when a checkpoint is quantised while loading: a value errs by 1/220 of its row's largest.
TABLE_BITS = 8
V1_KEYS = ("inner_hidden_size", "position_encoding_2d", "max_sequence_length", "gmask_token_id")

NAME_PATTERNS = {
    "v1": r"chatglm-6b",
    "v2": r"chatglm2|codegeex2",
    "v3": r"chatglm3",
    "glm4": r"glm-?4|codegeex4",
}

# What the original configuration classes assume for a key that config.json leaves out.
V1_DEFAULTS: dict[str, Any] = {
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
    rope_ratio: float
    position_2d: bool
    tie_embeddings: bool
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    bos_token_id: int | None = None  # v1: <sop>
    mask_token_id: int | None = None  # v1: [MASK]
    gmask_token_id: int | None = None  # v1: [gMASK]
    quantization_bit: int = 0
    embedding_bits: int = 0  # embedding and head; 0: as the other floats
    pre_seq_len: int = 0
    prefix_projection: bool = False
    dtype: str = "float16"
    name: str = "chatglm"
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, folder: Path | None = None) -> ModelConfig:
        """The configuration that ``raw``, a parsed config.json, describes; ``folder`` helps to tell the generation."""
        where = str(folder / "config.json") if folder else "config.json"
        if raw.get("model_type", "chatglm") != "chatglm":
            raise GlmError(
                "config-invalid", f"model_type is {plain(repr(raw['model_type']), 40)}, not 'chatglm'", where=where,
                hint="only the original ChatGLM and GLM-4 layout is read, not converted ones",
            )  # fmt: skip
        generation = recognise(raw, folder)
        read = _read_v1 if generation == "v1" else _read_glm2
        config = read(_Fields(raw, V1_DEFAULTS if generation == "v1" else GLM2_DEFAULTS, where), generation, folder)
        _check_heads(config, where)
        return config

    @property
    def traits(self) -> Traits:
        """What the generation has beside these fields."""
        return TRAITS[self.generation]

    def quantised(self, bits: int) -> ModelConfig:
        """As quantised to ``bits`` while loading, embedding and head to int8; what is stored quantised stays so."""
        if not bits or self.quantization_bit:
            return self
        return replace(self, quantization_bit=bits, embedding_bits=TABLE_BITS)

    @classmethod
    def from_folder(cls, folder: str | Path) -> ModelConfig:
        """The configuration of the checkpoint in ``folder``."""
        folder = Path(folder)
        if not os.path.isdir(folder):
            what = "is a file, not a folder" if os.path.exists(folder) else "does not exist"
            raise GlmError(
                "model-path", f"the model folder {what}", where=str(folder), hint="give a folder with config.json"
            )
        return cls.from_dict(read_json(folder / "config.json", "config-invalid"), folder=folder)


def read_json(path: Path, code: str) -> dict[str, Any]:
    """A JSON object from ``path``; anything else is a GlmError with ``code``."""
    try:
        data = read_bytes(path, JSON_LIMIT)
    except FileNotFoundError:
        raise GlmError("checkpoint-missing-file", f"{path.name} is missing", where=str(path.parent)) from None
    except OSError as error:
        raise GlmError("model-path", f"{path.name} cannot be read: {error.strerror}", where=str(path)) from None
    if data.startswith(b"version https://git-lfs"):
        raise GlmError(
            "checkpoint-lfs-pointer",
            f"{path.name} is a Git LFS pointer",
            where=str(path),
            hint="fetch it with `git lfs pull`",
        )
    if data.lstrip()[:1] == b"<":
        raise GlmError(
            "checkpoint-html", f"{path.name} is a web page", where=str(path), hint="download the file itself"
        )
    try:
        value = parse_json(data)
    except ValueError as error:
        raise GlmError(code, f"{path.name} is not valid JSON ({error})", where=str(path)) from None
    if not isinstance(value, dict):
        raise GlmError(code, f"{path.name} holds no JSON object", where=str(path))
    return value


def recognise(raw: Mapping[str, Any], folder: Path | None = None) -> str:
    """The generation, by the order in this module's head."""
    if raw.get(GENERATION_KEY) in GENERATIONS:
        return str(raw[GENERATION_KEY])
    if "padded_vocab_size" not in raw and any(key in raw for key in V1_KEYS):
        return "v1"
    vocabulary = raw.get("padded_vocab_size")
    if vocabulary == 151552:
        return "glm4"
    # Without any shape (a folder that holds a tokenizer alone) it may still be v1.
    allowed = ("v2", "v3") if vocabulary == 65024 else GENERATIONS[1:] if "hidden_size" in raw else GENERATIONS
    voices = (
        _generation_in(str(raw.get("_name_or_path", ""))),
        _generation_of_tokenizer(folder) if folder else None,
        _generation_in(str(_resolved(folder))) if folder else None,
        _generation_of_end_tokens(raw, allowed),
        _generation_of_release(str(raw.get("transformers_version", ""))),
    )
    return next((voice for voice in voices if voice is not None and voice in allowed), "v2")


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


def _resolved(folder: Path) -> Path:
    """The folder's own place and name; a relative path says neither."""
    return Path(os.path.realpath(folder))


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


class _Fields:
    """Takes checked values out of a config.json; the error names the field."""

    def __init__(self, raw: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> None:
        self.raw, self.defaults, self.where = raw, defaults, where

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

    def common(self, generation: str, folder: Path | None) -> dict[str, Any]:
        """The fields that every generation has under the same key."""
        path = self.value("_name_or_path", "")
        name = plain(Path(str(path)).name or (_resolved(folder).name if folder else "chatglm"), 100)
        bits = self.integer("quantization_bit", 0, 8, _default_bits(name))
        if bits not in (0, 4, 8):
            raise self.error("quantization_bit", bits, "0, 4 or 8")
        return {
            "generation": generation,
            "num_layers": self.layers(),
            "hidden_size": self.integer("hidden_size", 4, 1 << 17),
            "num_heads": self.integer("num_attention_heads", 1, 1 << 12),
            "norm_eps": self.number("layernorm_epsilon", 1e-12, 1.0),
            "quantization_bit": bits,
            "embedding_bits": bits if self.flag("quantization_embeddings") else 0,
            "pre_seq_len": self.integer("pre_seq_len", 0, 1 << 20, 0),
            "prefix_projection": self.flag("prefix_projection"),
            "tie_embeddings": self.flag("tie_word_embeddings"),
            "dtype": self.dtype(),
            "name": name,
            "raw": dict(self.raw),
        }


def _default_bits(name: str) -> int:
    """ChatGLM3-6B-32k's int4 release leaves the key out: its configuration class assumes 4."""
    return 4 if re.search(r"chatglm3-6b-32k-int4", name, re.IGNORECASE) else 0


def _read_v1(fields: _Fields, generation: str, folder: Path | None) -> ModelConfig:
    common = fields.common(generation, folder)
    hidden, heads = common["hidden_size"], common["num_heads"]
    vocabulary = fields.integer("vocab_size", 1, 1 << 24)
    if hidden % heads:
        raise fields.error("num_attention_heads", heads, f"a divisor of hidden_size {hidden}")
    return ModelConfig(
        **common,
        head_dim=hidden // heads,
        num_kv_heads=heads,
        ffn_hidden_size=fields.integer("inner_hidden_size", 1, 1 << 20),
        vocab_size=vocabulary,
        max_length=fields.integer("max_sequence_length", 1, 1 << 30),
        rmsnorm=False, post_layer_norm=True, qkv_bias=True, linear_bias=True, multi_query=False,
        residual_post_norm=True, rope_ratio=1.0,
        position_2d=fields.flag("position_encoding_2d"),
        eos_token_ids=fields.tokens("eos_token_id", vocabulary),
        pad_token_id=fields.token("pad_token_id", vocabulary),
        bos_token_id=fields.token("bos_token_id", vocabulary),
        mask_token_id=fields.token("mask_token_id", vocabulary),
        gmask_token_id=fields.token("gmask_token_id", vocabulary),
    )  # fmt: skip


def _read_glm2(fields: _Fields, generation: str, folder: Path | None) -> ModelConfig:
    common = fields.common(generation, folder)
    heads = common["num_heads"]
    vocabulary = fields.integer("padded_vocab_size", 1, 1 << 24)
    multi_query = fields.flag("multi_query_attention")
    groups = fields.integer("multi_query_group_num", 1, 1 << 12)
    if multi_query and heads % groups:
        raise fields.error("multi_query_group_num", groups, f"a divisor of num_attention_heads {heads}")
    return ModelConfig(
        **common,
        head_dim=fields.integer("kv_channels", 4, 1 << 12),
        num_kv_heads=groups if multi_query else heads,
        ffn_hidden_size=fields.integer("ffn_hidden_size", 1, 1 << 20),
        vocab_size=vocabulary,
        max_length=fields.integer("seq_length", 1, 1 << 30),
        rmsnorm=fields.flag("rmsnorm"),
        post_layer_norm=fields.flag("post_layer_norm"),
        qkv_bias=fields.flag("add_qkv_bias"),
        linear_bias=fields.flag("add_bias_linear"),
        multi_query=multi_query,
        residual_post_norm=fields.flag("apply_residual_connection_post_layernorm"),
        rope_ratio=fields.number("rope_ratio", 1e-3, 1e9),
        position_2d=False,
        eos_token_ids=fields.tokens("eos_token_id", vocabulary),
        pad_token_id=fields.token("pad_token_id", vocabulary),
    )


def _check_heads(config: ModelConfig, where: str) -> None:
    """The rotary embedding turns pairs within each half of a head (in 1D only v1 turns the whole head)."""
    if config.head_dim % 4:
        raise GlmError("config-invalid", f"the head dimension {config.head_dim} is not a multiple of 4", where=where)


def _published(name: str, overrides: Mapping[str, Any]) -> ModelConfig:
    return ModelConfig.from_dict({"model_type": "chatglm", "_name_or_path": f"THUDM/{name}", **overrides})


_CHATGLM2 = {"seq_length": 32768, "add_qkv_bias": True, "multi_query_attention": True, "multi_query_group_num": 2}
_GLM4 = {
    **_CHATGLM2, "num_layers": 40, "padded_vocab_size": 151552, "layernorm_epsilon": 1.5625e-07, "seq_length": 131072,
    "torch_dtype": "bfloat16", "eos_token_id": [151329, 151336, 151338], "pad_token_id": 151329, "rope_ratio": 500,
}  # fmt: skip

# The published models by name: their shapes are known without a checkpoint.
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
}  # fmt: skip
NAMED: dict[str, ModelConfig] = {name: _published(name, raw) for name, raw in _PUBLISHED.items()}


def find_config(model: str | Path) -> ModelConfig:
    """The configuration of a checkpoint folder, or of a published model by its name ("THUDM/chatglm2-6b-int4")."""
    if os.path.isdir(model):
        return ModelConfig.from_folder(model)
    name = str(model).rstrip("/").rpartition("/")[2].lower()
    base, _, bits = name.removesuffix("-qe").partition("-int")
    if base not in NAMED or bits not in ("", "4", "8"):
        raise GlmError(
            "model-path",
            f"{plain(str(model), 200)} is neither a folder nor a known name",
            hint=f"known: {', '.join(NAMED)}",
        )
    packed = int(bits or 0)
    return replace(
        NAMED[base], name=name, quantization_bit=packed, embedding_bits=packed if name.endswith("-qe") else 0
    )
