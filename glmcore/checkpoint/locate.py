"""A model's folder: given as it is, or by the name under which the hub's local cache holds it. Uses no network."""

from __future__ import annotations

import os
from pathlib import Path

from glmcore.errors import GlmError
from glmcore.reading import read_bytes

REVISION_LIMIT = 1000  # bytes; a revision has 40


def find_folder(model: str | Path) -> Path:
    """The folder of ``model``. Errors: GlmError("model-path")."""
    path = Path(os.path.expanduser(model))  # keeps "~nobody" as it is
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise GlmError("model-path", "the model is a file, not a folder", where=str(path), hint="give its folder")
    cached = cached_snapshot(str(model))
    if cached is None:
        raise GlmError(
            "model-path", "the model folder does not exist", where=str(model), hint="give a folder with config.json"
        )
    return cached


def cached_snapshot(name: str) -> Path | None:
    """The snapshot of "THUDM/chatglm2-6b" in the hub's cache, as its layout has it: refs/main names the folder."""
    if name.count("/") != 1 or ".." in name:
        return None
    home = Path(
        os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    )
    repository = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    try:
        revision = read_bytes(repository / "refs" / "main", REVISION_LIMIT).decode().strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = repository / "snapshots" / revision
    return snapshot if os.path.isdir(snapshot) else None
