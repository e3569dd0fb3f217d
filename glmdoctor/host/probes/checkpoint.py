"""A checkpoint folder by its file names, sizes and first bytes; no weights are read, whatever their size."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping

from glmdoctor.host.facts import Checkpoint, CheckpointFile, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes import weights

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.model", "ice_text.model")


def checkpoint(io: IO, model: str | None) -> Checkpoint | Unknown:
    """The folder that ``--model`` names, or the configuration of that name where there is no such folder."""
    if model is None:
        return Unknown("no model was named (--model)")
    path = os.path.abspath(os.path.expanduser(model))
    io = io.bound(path)
    if not io.is_folder(path):
        return _no_folder(io, model, path)
    try:
        names = sorted(io.listdir(path))
    except OSError:
        return _empty(path, exists=True, is_folder=True, readable=False, config={})
    config = _json(io, posixpath.join(path, "config.json"))
    files = [weights.examine(io, path, name) for name in names if io.is_file(posixpath.join(path, name))]
    files += [CheckpointFile(name, 0, "missing") for name in _missing(io, path, names)]
    return Checkpoint(
        path=path,
        exists=True,
        is_folder=True,
        readable=True,
        generation=_generation(config),
        quantization_bit=_int(config.get("quantization_bit")),
        config=config,
        files=tuple(files),
        weight_bytes=sum(file.size for file in files if file.kind in weights.KINDS),
    )


def _empty(path: str, exists: bool, is_folder: bool, readable: bool, config: Mapping[str, object]) -> Checkpoint:
    return Checkpoint(path, exists, is_folder, readable, _generation(config), None, dict(config), (), 0)


def _no_folder(io: IO, model: str, path: str) -> Checkpoint:
    named = _named(model)
    if named is not None and not io.exists(path):
        return _empty(model, exists=False, is_folder=False, readable=False, config=named)
    return _empty(path, exists=io.exists(path), is_folder=False, readable=False, config={})


def _named(model: str) -> Mapping[str, object] | None:
    """The configuration that glmcore knows by this name ("chatglm2-6b", with or without the hub's owner)."""
    from glmcore.config import NAMED

    config = NAMED.get(model.rpartition("/")[2])
    return None if config is None else config.raw


def _json(io: IO, path: str) -> dict[str, object]:
    try:
        value = json.loads(io.read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _generation(config: Mapping[str, object]) -> str | None:
    from glmcore.config import ModelConfig
    from glmcore.errors import GlmError

    try:
        return ModelConfig.from_dict(dict(config)).generation if config else None
    except GlmError:
        return None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _missing(io: IO, path: str, names: list[str]) -> list[str]:
    """Shards that an index names and the folder lacks."""
    wanted: dict[str, None] = {}
    for index in INDEXES:
        shards = _json(io, posixpath.join(path, index)).get("weight_map")
        if isinstance(shards, dict):
            wanted.update(dict.fromkeys(str(shard) for shard in shards.values()))
    return [name for name in wanted if name not in names]
