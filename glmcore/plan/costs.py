"""What each piece of a model costs: weights, KV cache and workspace, in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from glmcore.config import ModelConfig
from glmcore.errors import GlmError

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
SCALE_BYTES = 2  # one float16 scale for each output row, as in the original files

# What a CUDA context takes before the first tensor: about 300 MB since CUDA 11.7 loads kernels when they are called
# (https://github.com/pytorch/pytorch/issues/107667), and the kernels and library workspaces that a model brings in.
CUDA_CONTEXT_BYTES = 450 * 2**20


@dataclass(frozen=True)
class Precision:
    """How the weights lie in memory: what is not quantised in ``dtype``; the four linears of a layer in ``bits``."""

    dtype: str
    bits: int = 0  # 0, 4 or 8
    embedding_bits: int = 0  # embedding and head
    cache_dtype: str | None = None  # of the KV cache; ``dtype`` where None

    def __post_init__(self) -> None:
        for dtype in (self.dtype, self.cache_dtype or self.dtype):
            if dtype not in DTYPE_BYTES:
                raise GlmError("usage", f"{dtype!r} is no dtype", hint=f"one of {', '.join(DTYPE_BYTES)}")
        if self.bits not in (0, 4, 8) or self.embedding_bits not in (0, 4, 8):
            raise GlmError("usage", f"{self.bits} bits are not supported", hint="int4 or int8")

    @classmethod
    def of(cls, config: ModelConfig, dtype: str, bits: int = 0, cache_dtype: str | None = None) -> Precision:
        """As the loader holds ``config``: packed as it is stored, or quantised to ``bits`` on the way."""
        held = config.quantised(bits)
        return cls(dtype, held.quantization_bit, held.embedding_bits, cache_dtype)

    @property
    def value_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def cache_bytes(self) -> int:
        return DTYPE_BYTES[self.cache_dtype or self.dtype]


@dataclass(frozen=True)
class Piece:
    """A part of the model that sits on one device as a whole."""

    name: str  # "embedding", "layer.0", …, "final_norm", "lm_head"
    weights: int  # bytes
    cache_per_token: int = 0  # bytes of KV cache for each token of context


def matrix_bytes(rows: int, columns: int, precision: Precision, bits: int) -> int:
    """A weight of ``rows`` outputs and ``columns`` inputs, packed with its scales where it is quantised."""
    if not bits:
        return rows * columns * precision.value_bytes
    return rows * columns * bits // 8 + rows * SCALE_BYTES


def qkv_rows(config: ModelConfig) -> int:
    """Output rows of the fused query, key and value projection."""
    return (config.num_heads + 2 * config.num_kv_heads) * config.head_dim


def layer_bytes(config: ModelConfig, precision: Precision) -> int:
    """Weights of one transformer layer."""
    gated = 1 if config.generation == "v1" else 2  # SwiGLU has gate and up projections, GELU only one
    shapes = [
        (qkv_rows(config), config.hidden_size, config.qkv_bias or config.linear_bias),
        (config.hidden_size, config.num_heads * config.head_dim, config.linear_bias),
        (config.ffn_hidden_size * gated, config.hidden_size, config.linear_bias),
        (config.hidden_size, config.ffn_hidden_size, config.linear_bias),
    ]
    linears = sum(matrix_bytes(rows, columns, precision, precision.bits) for rows, columns, _ in shapes)
    biases = sum(rows for rows, _, bias in shapes if bias) * precision.value_bytes
    return linears + biases + 2 * norm_bytes(config, precision)


def norm_bytes(config: ModelConfig, precision: Precision) -> int:
    """One normalisation: a weight, and a bias where it is a LayerNorm."""
    return config.hidden_size * (1 if config.rmsnorm else 2) * precision.value_bytes


def kv_bytes_per_token(config: ModelConfig, precision: Precision) -> int:
    """KV cache of one token in one layer (keys and values before group expansion)."""
    return 2 * config.num_kv_heads * config.head_dim * precision.cache_bytes


def pieces(config: ModelConfig, precision: Precision) -> tuple[Piece, ...]:
    """Every piece in the order of the forward pass. A tied head has no weights of its own."""
    embedding = matrix_bytes(config.vocab_size, config.hidden_size, precision, precision.embedding_bits)
    layer = layer_bytes(config, precision)
    cache = kv_bytes_per_token(config, precision)
    layers = tuple(Piece(f"layer.{i}", layer, cache) for i in range(config.num_layers))
    final_norm = (Piece("final_norm", norm_bytes(config, precision)),) if config.post_layer_norm else ()
    head = Piece("lm_head", 0 if config.tie_embeddings else embedding)
    return (Piece("embedding", embedding), *layers, *final_norm, head)
