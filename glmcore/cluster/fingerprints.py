"""Whether two machines have the same checkpoint: sha256 of each of its files, remembered until the file changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from glmcore.checkpoint.files import FORMATS, LORA_FILES, find_weights
from glmcore.folders import user_folder
from glmcore.output import replacing
from glmcore.reading import JSON_LIMIT, open_regular, parse_json, read_bytes
from glmcore.tokenizers.files import NAMES

PIECE = 4 << 20  # bytes that are read at a time
KEPT = 1000  # files whose hashes are remembered


def fingerprints(folder: Path, adapter: Path | None = None) -> dict[str, str]:
    """File → sha256, of configuration, tokenizer and weights in ``folder``, and as adapter/… of an adapter's files.

    Errors: GlmError of ``find_weights``, OSError.
    """
    names = {"config.json", "tokenizer_config.json", *NAMES.values(), *(index for index, _ in FORMATS)}
    paths = {path.name: path for path in (*present(folder, names), *find_weights(folder).paths)}
    if adapter is not None:
        paths |= {f"adapter/{path.name}": path for path in adapter_files(adapter)}
    known = _remembered()
    keys = {name: _key(path) for name, path in paths.items()}
    made = {key: known.get(key) or sha256_of(paths[name]) for name, key in keys.items()}
    if made.keys() - known.keys():
        _remember({**known, **made})
    return {name: made[key] for name, key in keys.items()}


def present(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in sorted(names) if os.path.isfile(folder / name)]


def adapter_files(folder: Path) -> list[Path]:
    """What ``open_adapter`` reads. Errors: GlmError of ``find_weights``."""
    told = present(folder, ("adapter_config.json", "config.json"))
    lora = [folder / name for name in LORA_FILES if os.path.isfile(folder / name)][:1]
    return [*told, *(lora or find_weights(folder).paths)]


def differences(own: Mapping[str, str], reference: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Files of ``reference`` that ``own`` lacks, and those that differ."""
    missing = sorted(reference.keys() - own.keys())
    return missing, sorted(name for name in reference if name in own and own[name] != reference[name])


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _key(path: Path) -> str:
    """What changes when the file does."""
    real = os.path.realpath(path)
    status = os.stat(real)
    return f"{real}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"


def _file() -> Path | None:
    folder = user_folder("cache", "glmcore")
    return None if folder is None else Path(folder, "hashes.json")


def _remembered() -> dict[str, str]:
    path = _file()
    try:
        found = parse_json(read_bytes(path, JSON_LIMIT)) if path is not None else {}
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _remember(hashes: Mapping[str, str]) -> None:
    """Where nothing can be kept, files are hashed again the next time."""
    path = _file()
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(json.dumps(dict(list(hashes.items())[-KEPT:])).encode())
