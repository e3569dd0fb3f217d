"""A checkpoint folder by its file names, sizes and first bytes; no weights are read, whatever their size."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

from glmcore.reading import JSON_LIMIT, parse_json
from glmdoctor.host.facts import Checkpoint, CheckpointFile, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes import engine, gpu_code, remote_code, tensors, weights

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
DEVICE_MAP = "device_map.json"
JSON_WITH_CODE = ("config.json", "tokenizer_config.json")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def checkpoint(io: IO, model: str | None) -> Checkpoint | Unknown:
    """The folder that ``--model`` names, or the configuration of that name where there is no such folder."""
    if model is None:
        return Unknown("no model was named (--model)")
    path = os.path.abspath(os.path.expanduser(model))
    io = io.bound(path)
    if not io.is_folder(path):
        return _no_folder(io, model, path)
    if engine.is_engine(io, path):
        return Unknown("the model is a compiled engine, no checkpoint")
    try:
        names = sorted(io.listdir(path))
    except OSError:
        return _without_files(path, exists=True, is_folder=True, config={})
    config = _json(io, posixpath.join(path, "config.json"))
    generation, bits = _generation(config, io.place(path))
    files = [weights.examine(io, path, name) for name in names if not io.is_folder(posixpath.join(path, name))]
    shards = _shards(io, path)
    whole = {file.name for file in files}
    files += [_missing(name, name in names) for name in shards if name not in whole]
    return Checkpoint(
        path=path,
        exists=True,
        is_folder=True,
        readable=True,
        generation=generation,
        quantization_bit=bits,
        config=config,
        files=tuple(files),
        weight_bytes=_weight_bytes(files, shards),
        remote_code=remote_code.marks(io, path),
        tensors=tuple(tensors.telltale(io, path, names)),
        misfit=tensors.misfit(io, path, _weight_files(files, shards), config) if config else None,
        device_map=_device_map(io, posixpath.join(path, DEVICE_MAP)),
        gpu_code=gpu_code.gpu_code(io, path),
        code_elsewhere={name: _elsewhere(io, posixpath.join(path, name)) for name in JSON_WITH_CODE if name in names},
    )


def _without_files(path: str, exists: bool, is_folder: bool, config: Mapping[str, object]) -> Checkpoint:
    generation, bits = _generation(config, None)
    return Checkpoint(path, exists, is_folder, False, generation, bits, config, (), 0)


def _no_folder(io: IO, model: str, path: str) -> Checkpoint:
    named = None if io.exists(path) else _named(model)
    if named is not None:
        return _without_files(model, exists=False, is_folder=False, config=named)
    return _without_files(path, exists=io.exists(path), is_folder=False, config={})


def _named(model: str) -> Mapping[str, object] | None:
    """The configuration that glmcore knows by this name ("chatglm2-6b", with or without the hub's owner)."""
    from glmcore.config import NAMED

    config = NAMED.get(model.rpartition("/")[2])
    return None if config is None else config.raw


def _json(io: IO, path: str) -> dict[str, object]:
    try:
        value = parse_json(io.read_bytes(path, JSON_LIMIT))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _generation(config: Mapping[str, object], folder: str | None) -> tuple[str | None, int | None]:
    """Generation and bits of quantisation; None and None for a config.json that is missing or of another model."""
    from glmcore.config import ModelConfig, recognise
    from glmcore.config.generation import MODEL_TYPES
    from glmcore.errors import GlmError

    if not config or config.get("model_type", "chatglm") not in MODEL_TYPES:
        return None, None
    place = Path(folder) if folder else None
    try:
        known = ModelConfig.from_dict(config, folder=place)
    except GlmError:  # a wrong value; the generation may be told all the same
        return recognise(config, place), None
    return known.generation, known.quantization_bit or None


def _missing(shard: str, stands_there: bool) -> CheckpointFile:
    return CheckpointFile(shard, 0, "missing", "a folder stands there" if stands_there else None)


def _elsewhere(io: IO, path: str) -> tuple[str, ...]:
    """The values of ``auto_map`` that name a repository; a tokenizer's entry is a pair, of which one may be null."""
    mapped = _json(io, path).get("auto_map")
    values = mapped.values() if isinstance(mapped, dict) else ()
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return tuple(dict.fromkeys(item for item in flat if isinstance(item, str) and "--" in item))


def _device_map(io: IO, path: str) -> dict[str, str]:
    """What scripts hand to accelerate; {} where there is no such file, or it holds anything else than devices."""
    return {name: str(device) for name, device in _json(io, path).items() if isinstance(device, (str, int))}


def _shards(io: IO, path: str) -> list[str]:
    """The files that the index names, safetensors before the older form."""
    for index in INDEXES:
        shards = _json(io, posixpath.join(path, index)).get("weight_map")
        if isinstance(shards, dict):
            return list(dict.fromkeys(str(shard) for shard in shards.values()))
    return []


def _weight_files(files: list[CheckpointFile], shards: list[str]) -> list[str]:
    """The files that glmcore reads: the single one, else the index's shards; safetensors before the older form."""
    names = {file.name for file in files}
    for single, index in zip(SINGLE_FILES, INDEXES, strict=True):
        if single in names or index in names:
            return [single] if single in names else shards
    return []


def _weight_bytes(files: list[CheckpointFile], shards: list[str]) -> int:
    """Bytes that loading reads: the index's shards, or the single file; else everything that holds tensors."""
    sizes = {file.name: file.size for file in files if file.kind in weights.KINDS}
    for chosen in (shards, *([single] for single in SINGLE_FILES)):
        if any(name in sizes for name in chosen):
            return sum(sizes.get(name, 0) for name in chosen)
    return sum(sizes.values())
