"""Writes a checkpoint in the original layout: config.json, safetensors by shards, and the folder's other files.

Every file appears whole or not at all, and config.json last: what can be opened is complete. One run at a time writes
into a folder. A run that was killed goes on where it stood: the file ``.unfinished.json`` says what was being written,
and which shards are finished, by their checksums.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from glmcore.checkpoint.lock import LOCK, alone
from glmcore.checkpoint.tensor_files import DTYPES, TensorInfo
from glmcore.errors import GlmError
from glmcore.output import PART, remedy, replacing
from glmcore.reading import JSON_LIMIT, open_regular, parse_json, read_bytes

SHARD_BYTES = 2_000_000_000  # about what the original shards have
INDEX = "model.safetensors.index.json"
UNFINISHED = ".unfinished.json"
# What a checkpoint folder holds besides weights and configuration, and a copy needs too.
COMPANIONS = (
    "*.model",
    "tokenizer*.json",
    "special_tokens_map.json",
    "generation_config.json",
    "LICENSE*",
    "MODEL_LICENSE*",
)

# Names of tensors → those tensors, in any order.
Produce = Callable[[Sequence[str]], Iterable[tuple[str, Tensor]]]
Progress = Callable[[int, int], None]  # bytes written, bytes in all


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
    tensors: Mapping[str, TensorInfo],
    produce: Produce,
    *,
    source: str = "",
    companions: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write ``tensors`` (type and shape of each; only one is held at a time), asked of ``produce`` shard by shard.

    ``source`` tells what the tensors are made of: only a run with the same one goes on where another stopped.
    ``companions`` is a folder whose tokenizer and licence are copied along.
    Errors: GlmError("write-failed"), also where ``folder`` holds something else.
    """
    folder = Path(folder)
    shards = plan_shards({name: info.nbytes for name, info in tensors.items()}, shard_bytes)
    files = ["model.safetensors"] if len(shards) == 1 else _shard_names(len(shards))
    job = {"source": source, "config": dict(raw_config), "shards": dict(zip(files, shards, strict=True))}
    try:
        _check_free(folder, job)
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            _write(folder, job, tensors, produce, companions, progress)
    except OSError as error:
        what = f"could not write: {error.strerror or error}"
        raise GlmError("write-failed", what, where=str(folder), hint=remedy(error)) from error


def _write(
    folder: Path,
    job: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    produce: Produce,
    companions: Path | None,
    progress: Progress | None,
) -> None:
    """What of ``job`` is not there yet, by whoever holds the folder's lock."""
    shards: Mapping[str, Sequence[str]] = job["shards"]
    total, done = sum(info.nbytes for info in tensors.values()), 0
    finished = _start(folder, job)
    missing = [name for file, names in shards.items() if file not in finished for name in names]
    _check_room(folder, sum(tensors[name].nbytes for name in missing))
    for file, names in shards.items():
        layout = {name: tensors[name] for name in names}
        if not finished.get(file) or finished[file] != _checksum(folder / file):
            write_safetensors(folder / file, layout, produce(names), lambda n, at=done: _tell(progress, at + n, total))
            finished[file] = _checksum(folder / file)
            _write_json(folder / UNFINISHED, {**job, "finished": finished})
        done += sum(info.nbytes for info in layout.values())
        _tell(progress, done, total)
    if len(shards) > 1:
        _write_json(folder / INDEX, _index(shards, total))
    if companions is not None:
        _copy_companions(companions, folder)
    _write_json(folder / "config.json", job["config"])
    (folder / UNFINISHED).unlink()


def _start(folder: Path, job: Mapping[str, Any]) -> dict[str, str]:
    """Claim the folder for ``job``; the checksums of the shards that an earlier run of the same job finished."""
    finished = _check_free(folder, job)
    for part in folder.glob(PART.format("*")):  # of a run that was killed
        part.unlink()
    if finished is None:
        _write_json(folder / UNFINISHED, {**job, "finished": {}})
    return finished or {}


def _check_free(folder: Path, job: Mapping[str, Any]) -> dict[str, str] | None:
    """What an earlier run of the same job finished; None where the folder is free. Errors: GlmError("write-failed")."""
    try:
        found = parse_json(read_bytes(folder / UNFINISHED, JSON_LIMIT))
    except (FileNotFoundError, ValueError):
        found = {}
    finished = found.pop("finished", {}) if isinstance(found, dict) else {}
    if found == job:
        return finished if isinstance(finished, dict) else {}
    ours = re.compile(f"{re.escape(LOCK)}|{PART.format('[0-9a-f]+')}")
    if os.path.lexists(folder) and not all(ours.fullmatch(name) for name in os.listdir(folder)):
        what = "the folder is not empty" if not found else "the folder holds an unfinished checkpoint of something else"
        raise GlmError("write-failed", what, where=str(folder), hint="choose another folder, or empty this one")
    return None


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{needed / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB are free"
        raise GlmError("write-failed", what, where=str(folder), hint="make room, or choose another disk")


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _shard_names(count: int) -> list[str]:
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def write_safetensors(
    path: Path,
    layout: Mapping[str, TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write one file, each tensor, in the shape and type that ``layout`` says, to its place as it comes.

    ``progress`` is told the bytes written so far. Errors: OSError.
    """
    header, places = _header(layout)
    done = 0
    with replacing(path) as file:
        file.write(header)
        for name, tensor in tensors:
            info = layout[name]
            assert tensor.dtype == info.dtype and tuple(tensor.shape) == info.shape, name
            file.seek(places[name])
            _write_tensor(file, tensor.contiguous())
            done += info.nbytes
            progress(done)


def _header(layout: Mapping[str, TensorInfo]) -> tuple[bytes, dict[str, int]]:
    """The file's beginning and where each tensor goes; the widest types first, so that all are aligned.

    The first one begins a cache line: files are used as they lie in memory.
    """
    types = {dtype: name for name, dtype in DTYPES.items()}
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, info in sorted(layout.items(), key=lambda item: -item[1].dtype.itemsize):
        entries[name] = {
            "dtype": types[info.dtype], "shape": list(info.shape), "data_offsets": [end, end + info.nbytes]
        }  # fmt: skip
        end += info.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {n: start + entries[n]["data_offsets"][0] for n in layout}


def _write_tensor(file: BinaryIO, tensor: Tensor) -> None:
    if tensor.nbytes:
        file.write((ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr()))


def _checksum(path: Path) -> str:
    """SHA-256 of a file, "" where there is none."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _index(shards: Mapping[str, Iterable[str]], total: int) -> dict[str, Any]:
    weight_map = {name: file for file, names in shards.items() for name in names}
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _copy_companions(source: Path, folder: Path) -> None:
    for pattern in COMPANIONS:
        for path in filter(os.path.isfile, source.glob(pattern)):
            with open_regular(path) as original, replacing(folder / path.name) as copy:
                shutil.copyfileobj(original, copy)
