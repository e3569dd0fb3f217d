"""In which types the pieces of a model are kept and compute, by device. Names are those of torch's types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmcore.plan.devices import is_cpu

if TYPE_CHECKING:
    from glmcore.config import ModelConfig


@dataclass(frozen=True)
class Types:
    """The types of what one device holds."""

    stored: str  # of matrices that are not quantised
    computing: str  # of hidden states, and of vectors: norms and biases
    cache: str  # of keys and values


def types_on(device: str, dtype: str, stored: str, cache: str | None = None) -> Types:
    """A card computes in ``dtype``; a CPU, which has no fast 16 bits and overflows in float16, in float32.

    cache: what a CPU keeps of keys and values, where they are not of the type that it computes in.
    """
    computing = "float32" if is_cpu(device) else dtype
    return Types(stored, computing, cache if cache and is_cpu(device) else computing)


def stored_type(config: ModelConfig, dtype: str) -> str:
    """The type in which matrices are kept where ``dtype`` is asked for: of a quantised model only embedding and head
    are left, and they keep the checkpoint's 16 bits, for float32 would add bytes and nothing else."""
    return config.dtype if config.quantization_bit and dtype == "float32" else dtype
