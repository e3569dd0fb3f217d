"""Which files hold the weights, and what lies in their place where they do not. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from glmcore.errors import GlmError, plain
from glmcore.reading import open_regular, read_json

# (index, single file) in the order in which they are looked for: safetensors executes nothing and loads lazily.
FORMATS = (
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
ENGINE = "engine.pt2"  # the graphs of a folder that glmcore compile made
# Of a LoRA as PEFT saves it, in the order in which they are looked for.
LORA_FILES = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class WeightFiles:
    """The files of a checkpoint, and for a sharded one which file holds which tensor (by its index)."""

    paths: tuple[Path, ...]
    index: dict[str, str] | None = None


def find_weights(folder: Path) -> WeightFiles:
    """The weight files of the checkpoint in ``folder``, all of them there and none an obvious stand-in.

    Errors: GlmError("checkpoint-missing-file", "checkpoint-damaged", "checkpoint-unsafe") and ``refuse_stand_in``'s.
    """
    for index_name, single_name in FORMATS:
        if os.path.exists(folder / single_name):
            found = WeightFiles((folder / single_name,))
        elif os.path.exists(folder / index_name):
            found = _sharded(folder / index_name)
        else:
            continue
        for path in found.paths:
            refuse_stand_in(path)
        return found
    if os.path.exists(folder / ENGINE):
        what = "this is a compiled engine, no checkpoint"
        hint = "ask it by glmcore infer --engine, or name the checkpoint that it was compiled from"
        raise GlmError("checkpoint-missing-file", what, where=str(folder), hint=hint)
    raise GlmError(
        "checkpoint-missing-file", "no weights: neither model.safetensors nor pytorch_model.bin nor an index of shards",
        where=str(folder), hint="download the checkpoint's weight files",
    )  # fmt: skip


def _sharded(path: Path) -> WeightFiles:
    index = read_json(path, "checkpoint-damaged").get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(file, str) for file in index.values()):
        raise GlmError("checkpoint-damaged", f"{path.name} has no weight_map of tensor names to files", where=str(path))
    files = sorted(set(index.values()))
    for file in files:
        if not _stays_inside(file):
            raise GlmError(
                "checkpoint-unsafe", f"{path.name} points outside the folder: {plain(file, 80)!r}", where=str(path),
                hint="this index was tampered with; download the checkpoint again",
            )  # fmt: skip
    missing = [file for file in files if not os.path.exists(path.parent / file)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise GlmError(
            "checkpoint-missing-file", f"the shard {plain(missing[0], 80)}{more} is missing", where=str(path.parent),
            hint="download the missing files",
        )  # fmt: skip
    _refuse_folders(path, index)
    return WeightFiles(tuple(path.parent / file for file in files), index)


def _refuse_folders(path: Path, index: dict[str, str]) -> None:
    for name, file in index.items():
        if os.path.isdir(path.parent / file):
            raise GlmError(
                "checkpoint-damaged", f"{path.name} puts {plain(name, 80)} into {plain(file, 80)!r}, which is a folder",
                where=str(path), hint="download the index again, and the shard that it then names; the folder may stay",
            )  # fmt: skip


def _stays_inside(file: str) -> bool:
    """A plain relative name; links inside the folder are the hub cache's own and allowed."""
    posix, windows = PurePosixPath(file), PureWindowsPath(file)
    return (
        bool(file) and "\0" not in file and not posix.is_absolute() and not windows.anchor and ".." not in windows.parts
    )


def refuse_stand_in(path: Path) -> None:
    """Refuse what is no weight file at all: a folder, empty, an LFS pointer or a web page.

    Errors: GlmError("checkpoint-missing-file", "model-path", "checkpoint-damaged", "checkpoint-lfs-pointer",
    "checkpoint-html").
    """
    if not os.path.isfile(path):
        raise GlmError("checkpoint-missing-file", f"{path.name} is not a file", where=str(path))
    try:
        with open_regular(path) as file:
            head = file.read(512)
    except OSError as error:
        raise GlmError("model-path", f"{path.name} cannot be read: {error.strerror}", where=str(path)) from None
    if not head:
        raise GlmError("checkpoint-damaged", f"{path.name} is empty", where=str(path), hint="download it again")
    if head.startswith(b"version https://git-lfs"):
        raise GlmError(
            "checkpoint-lfs-pointer", f"{path.name} is a Git LFS pointer, not the weights", where=str(path),
            hint="fetch the file with `git lfs pull`",
        )  # fmt: skip
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise GlmError(
            "checkpoint-html", f"{path.name} is a web page, not the weights", where=str(path),
            hint="download the file itself, not the page about it",
        )  # fmt: skip
