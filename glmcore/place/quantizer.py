"""Quantises a checkpoint into another one in the original layout, matrix by matrix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmcore.checkpoint import Checkpoint, save_checkpoint
from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import SHARD_BYTES
from glmcore.config import GENERATION_KEY, ModelConfig, recognise
from glmcore.errors import GlmError
from glmcore.layout import expected
from glmcore.place.loader import in_order, stored, target_config


def quantize_checkpoint(
    source: Checkpoint,
    folder: str | Path,
    quantize: str,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> ModelConfig:
    """Write ``source`` as "int8" or "int4" to ``folder``; a run that was killed goes on. Returns the new config.

    It is what the original's quantiser makes, bit for bit: embedding and head keep their 16 bits. Errors:
    GlmError("usage") for a source that is quantised already or that lies in ``folder``, GlmError("write-failed").
    """
    if source.config.quantization_bit:
        raise GlmError(
            "usage", f"{source.config.name} is already quantised to int{source.config.quantization_bit}",
            where=str(source.folder), hint="give the original checkpoint",
        )  # fmt: skip
    if os.path.realpath(folder) == os.path.realpath(source.folder):
        raise GlmError("usage", "the checkpoint would overwrite itself", hint="choose another folder")
    # The original layout has room for packed embeddings in some generations only.
    config = replace(target_config(source.config, quantize), embedding_bits=0)
    tensors = {name: _info(source, name, kind) for name, kind in _kinds(source, config).items()}

    def produce(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        matrices = dict.fromkeys(name.removesuffix("_scale") for name in names)
        for _, made in in_order(matrices, lambda name: stored(source, config, name)):
            yield from ((name, tensor) for name, tensor in made.items() if name in names)

    save_checkpoint(
        folder,
        _raw(config),
        tensors,
        produce,
        source=_fingerprint(source),
        companions=source.folder,
        shard_bytes=shard_bytes,
        progress=progress,
    )
    return config


def _kinds(source: Checkpoint, config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → kind and shape of each tensor to be written."""
    held = set(source.names)
    return {n: (spec.kind, spec.shape) for n, spec in expected(config).items() if n in held or spec.kind == "scale"}


def _info(source: Checkpoint, name: str, what: tuple[str, tuple[int, ...]]) -> TensorInfo:
    kind, shape = what
    if kind == "packed":
        return TensorInfo(torch.int8, shape)
    own = source.info(name.removesuffix("_scale")).dtype
    return TensorInfo(torch.float16 if kind == "scale" and own == torch.float32 else own, shape)


def _raw(config: ModelConfig) -> dict[str, Any]:
    """The new config.json: the old one, and the generation where the old folder's files or name had to tell it."""
    raw = {**config.raw, "quantization_bit": config.quantization_bit}
    return raw if recognise(raw) == config.generation else {**raw, GENERATION_KEY: config.generation}


def _fingerprint(source: Checkpoint) -> str:
    """Tells one source from another: where it lies, and the size and time of its files."""
    parts = [f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in source.paths]
    return " ".join([os.path.realpath(source.folder), *parts])
