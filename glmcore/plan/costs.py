"""What each piece of a model costs: weights, KV cache and workspace, in bytes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from glmcore import layout
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.plan.types import Types, stored_type, types_on

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
SCALE_BYTES = 2  # one float16 scale for each output row, as in the original files

# What a CUDA context takes before the first tensor: about 300 MB since CUDA 11.7 loads kernels when they are called
# (https://github.com/pytorch/pytorch/issues/107667), and the kernels and library workspaces that a model brings in.
CUDA_CONTEXT_BYTES = 450 * 2**20


@dataclass(frozen=True)
class Precision:
    """What is asked for: floats in ``dtype``, the four linears of a layer in ``bits``."""

    dtype: str
    bits: int = 0  # 0, 4 or 8
    embedding_bits: int = 0  # embedding and head
    stored: str | None = None  # of matrices that are not quantised; ``dtype`` where None
    cache: str | None = None  # of keys and values on a CPU; float32, in which it computes, where None

    def __post_init__(self) -> None:
        for dtype in (self.dtype, self.stored or self.dtype, self.cache or self.dtype):
            if dtype not in DTYPE_BYTES:
                raise GlmError("usage", f"{dtype!r} is no dtype", hint=f"one of {', '.join(DTYPE_BYTES)}")
        if self.bits not in (0, 4, 8) or self.embedding_bits not in (0, 4, 8):
            raise GlmError("usage", f"{self.bits} bits are not supported", hint="int4 or int8")

    @classmethod
    def of(cls, config: ModelConfig, dtype: str, bits: int = 0, cache: str | None = None) -> Precision:
        """As the loader holds ``config``: packed as it is stored, or quantised to ``bits`` on the way."""
        held = config.quantised(bits)
        return cls(dtype, held.quantization_bit, held.embedding_bits, stored_type(held, dtype), cache)

    def on(self, device: str) -> Types:
        """The types of what lies on a device."""
        return types_on(device, self.dtype, self.stored or self.dtype, self.cache)


@dataclass(frozen=True)
class Piece:
    """A piece of the model (``glmcore.layout``) and what it costs."""

    name: str
    weights: int  # bytes
    cache_per_token: int = 0  # bytes of KV cache for each token of context


def tensor_bytes(spec: layout.Spec, types: Types) -> int:
    """One tensor: matrices in the type that they are stored in, vectors in that of the computing."""
    if spec.kind == "float":
        return spec.values * DTYPE_BYTES[types.stored if len(spec.shape) == 2 else types.computing]
    return spec.values * (SCALE_BYTES if spec.kind == "scale" else 1)


def piece_bytes(piece: layout.Piece, types: Types) -> int:
    """The weights of one piece; a tied head has none of its own."""
    return sum(tensor_bytes(spec, types) for spec in piece.tensors.values() if not spec.optional)


def kv_bytes_per_token(config: ModelConfig, kept: str) -> int:
    """KV cache of one token in one layer (keys and values before group expansion), in the type it is kept in."""
    return 2 * config.num_kv_heads * config.head_dim * DTYPE_BYTES[kept]


@functools.lru_cache(maxsize=64)
def pieces(config: ModelConfig, precision: Precision, device: str) -> tuple[Piece, ...]:
    """Every piece in the order of the forward pass, as it would lie on ``device``."""
    held = replace(config, quantization_bit=precision.bits, embedding_bits=precision.embedding_bits)
    types = precision.on(device)
    cache = kv_bytes_per_token(config, types.cache)
    return tuple(
        Piece(piece.name, piece_bytes(piece, types), cache if piece.is_layer else 0) for piece in layout.pieces(held)
    )
