"""Writes a checkpoint in the original layout: config.json, safetensors by shards, and the folder's other files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from glmcore.errors import GlmError

SHARD_BYTES = 2_000_000_000  # about what the original shards have
INDEX = "model.safetensors.index.json"
# What a checkpoint folder holds besides weights and configuration, and a copy needs too.
COMPANIONS = (
    "*.model",
    "tokenizer*.json",
    "special_tokens_map.json",
    "generation_config.json",
    "LICENSE*",
    "MODEL_LICENSE*",
)


def plan_shards(sizes: Mapping[str, int], limit: int = SHARD_BYTES) -> list[list[str]]:
    """Tensor names in their order, cut into shards of at most ``limit`` bytes (a larger tensor stands alone)."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def save_checkpoint(
    folder: str | Path,
    raw_config: Mapping[str, Any],
    sizes: Mapping[str, int],
    read: Callable[[str], torch.Tensor],
    *,
    companions: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the tensors named in ``sizes`` (name → bytes), each asked of ``read`` when its shard is written.

    Each file appears whole or not at all, config.json last; a shard that an interrupted run left complete is kept, so
    the same call again goes on from there. ``companions`` is a folder whose tokenizer and licence are copied along.
    """
    folder = Path(folder)
    shards = plan_shards(sizes, shard_bytes)
    files = ["model.safetensors"] if len(shards) == 1 else _shard_names(len(shards))
    total, done = sum(sizes.values()), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, names in zip(files, shards, strict=True):
            if not (folder / file).exists():
                _write_shard(folder / file, names, read)
            done += sum(sizes[name] for name in names)
            if progress is not None:
                progress(done, total)
        if len(shards) > 1:
            _write_json(folder / INDEX, _index(files, shards, total))
        if companions is not None:
            _copy_companions(companions, folder)
        _write_json(folder / "config.json", raw_config)
    except OSError as error:
        raise GlmError("write-failed", f"could not write: {error.strerror or error}", where=str(folder)) from error


def _shard_names(count: int) -> list[str]:
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def _write_shard(path: Path, names: Iterable[str], read: Callable[[str], torch.Tensor]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        save_file({name: read(name).contiguous() for name in names}, part, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(0, str(error)) from error
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def _index(files: Iterable[str], shards: Iterable[Iterable[str]], total: int) -> dict[str, Any]:
    weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def _copy_companions(source: Path, folder: Path) -> None:
    for pattern in COMPANIONS:
        for path in source.glob(pattern):
            if path.is_file() and not (folder / path.name).exists():
                shutil.copyfile(path, folder / path.name)
