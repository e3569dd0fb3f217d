"""Whether two machines have the same checkpoint: sha256 of each of its files, remembered until the file changes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from glmcore.checkpoint.files import FORMATS, LORA_FILES, find_weights
from glmcore.digest import sum_of
from glmcore.tokenizers.files import NAMES


def fingerprints(folder: Path, adapter: Path | None = None) -> dict[str, str]:
    """File → sha256, of configuration, tokenizer and weights in ``folder``, and as adapter/… of an adapter's files.

    Errors: GlmError of ``find_weights``, OSError.
    """
    names = {"config.json", "tokenizer_config.json", *NAMES.values(), *(index for index, _ in FORMATS)}
    paths = {path.name: path for path in (*present(folder, names), *find_weights(folder).paths)}
    if adapter is not None:
        paths |= {f"adapter/{path.name}": path for path in adapter_files(adapter)}
    return {name: sum_of(path).sha256 for name, path in paths.items()}


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
