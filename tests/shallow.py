"""A checkpoint without all layers but the first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import write_safetensors


def make_shallow(source: Path, folder: Path, **config: int) -> None:
    """Write that of ``source`` to ``folder``, whose config.json says ``config`` besides."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors*", "*.bin"))
    with open_checkpoint(source) as whole:
        kept = [name for name in whole.names if ".layers." not in name or ".layers.0." in name]
        tensors = {name: whole.tensor(name) for name in kept}
    layout = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_safetensors(folder / "model.safetensors", layout, tensors.items())
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "num_layers": 1, **config}))
