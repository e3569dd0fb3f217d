"""Quantises a checkpoint into another one in the original layout, matrix by matrix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmcore.checkpoint import Checkpoint, save_checkpoint
from glmcore.checkpoint.reader import cut
from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import SHARD_BYTES
from glmcore.config import GENERATION_KEY, TABLES_KEY, ModelConfig, recognise
from glmcore.config.hf import quantization_config
from glmcore.errors import GlmError
from glmcore.layout import Spec, in_files, parts, piece_of
from glmcore.place.loader import in_order, stored, target_config

# What embedding and head can be packed to, and its bits.
TABLES = {"int8": 8, "int4": 4}


def quantize_checkpoint(
    source: Checkpoint,
    folder: str | Path,
    quantize: str,
    *,
    tables: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> ModelConfig:
    """Write ``source`` as "int8" or "int4" to ``folder``; a run that was killed goes on. Returns the new config.

    It is what the original's quantiser makes, bit for bit: embedding and head keep their 16 bits. With ``tables``
    "int8" they are packed as loading would pack them, with "int4" smaller; the original's code reads neither. Errors:
    GlmError("usage") for a source that is quantised already, that lies in ``folder``, or whose layout has no room for
    packed tables; GlmError("write-failed").
    """
    if tables not in (None, *TABLES):
        raise GlmError("usage", f"{tables!r} is nothing for embedding and head", hint="int8, int4, or leave it away")
    if source.config.quantization_bit:
        raise GlmError(
            "usage", f"{source.config.name} is already quantised to int{source.config.quantization_bit}",
            where=str(source.folder), hint="give the original checkpoint",
        )  # fmt: skip
    if os.path.realpath(folder) == os.path.realpath(source.folder):
        raise GlmError("usage", "the checkpoint would overwrite itself", hint="choose another folder")
    if tables and source.config.traits.files == "hf":
        what = "transformers' own layout has no room for a packed embedding and head"
        raise GlmError("usage", what, where=str(source.folder), hint="leave --tables away")
    config = replace(target_config(source.config, quantize), embedding_bits=TABLES.get(tables or "", 0))
    whole_of = {part: whole for whole, of in parts(config).items() for part in of}
    tensors = _infos(source, config, whole_of)

    def produce(names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        wanted = set(names)
        matrices = dict.fromkeys(whole_of[name].removesuffix("_scale") for name in names)
        for _, made in in_order(matrices, lambda name: stored(source, config, name)):
            for whole, tensor in made.items():
                yield from ((name, part) for name, part in cut(tensor, parts(config)[whole]) if name in wanted)

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


def _infos(source: Checkpoint, config: ModelConfig, whole_of: Mapping[str, str]) -> dict[str, TensorInfo]:
    """Name, type and shape of each tensor to be written: what the source has, and what packing adds to it."""
    made = ("scale", "words", "shape")
    return {
        name: _info(source, config, whole_of[name], spec)
        for name, spec in in_files(config).items()
        if name in source.holders or spec.kind in made
    }


def _info(source: Checkpoint, config: ModelConfig, whole: str, spec: Spec) -> TensorInfo:
    types = {"packed": torch.int8, "words": torch.int32, "shape": torch.int64}
    if spec.kind in types:
        return TensorInfo(types[spec.kind], spec.shape)
    own = source.info(whole.removesuffix("_scale")).dtype
    halves = spec.kind == "scale" and (own == torch.float32 or piece_of(config, whole).is_table)
    return TensorInfo(torch.float16 if halves else own, spec.shape)


def _raw(config: ModelConfig) -> dict[str, Any]:
    """The new config.json: the old one, and the generation where the old folder's files or name had to tell it.

    Where embedding and head are packed it leads to no code of the original's, which would take integers for values.
    """
    if config.traits.files == "hf":
        raw = {**config.raw, "quantization_config": quantization_config(config.quantization_bit)}
    else:
        raw = {**config.raw, "quantization_bit": config.quantization_bit}
    if config.embedding_bits:
        raw[TABLES_KEY] = config.embedding_bits
        raw.pop("auto_map", None)
    return raw if recognise(raw) == config.generation else {**raw, GENERATION_KEY: config.generation}


def _fingerprint(source: Checkpoint) -> str:
    """Tells one source from another: where it lies, and the size and time of its files."""
    parts = [f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in source.paths]
    return " ".join([os.path.realpath(source.folder), *parts])
