"""The models that transformers has classes for: small checkpoints with its own results (scripts/golden_family.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

FAMILY = Path(__file__).resolve().parent / "golden" / "family"
CASES = sorted(path.name for path in FAMILY.iterdir() if path.is_dir())


def results(case: str) -> dict[str, Tensor]:
    return load_file(FAMILY / case / "results.safetensors")


def copied(
    case: str,
    folder: Path,
    config: Callable[[dict[str, Any]], Any] = lambda raw: None,
    weights: Callable[[dict[str, Tensor]], Any] = lambda tensors: None,
) -> Path:
    """A copy of a case's checkpoint in ``folder``, its configuration and its tensors changed in place."""
    target = folder / case
    shutil.copytree(FAMILY / case, target)
    (target / "results.safetensors").unlink()
    raw = json.loads((target / "config.json").read_text())
    config(raw)
    (target / "config.json").write_text(json.dumps(raw))
    tensors = load_file(target / "model.safetensors")
    weights(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target
