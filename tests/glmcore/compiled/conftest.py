"""Engines that the tests of this folder share: each is compiled once in a run, by whoever asks for it first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.tensor_files import TensorInfo
from glmcore.checkpoint.writer import write_safetensors
from glmcore.compiled.combine import combine
from glmcore.compiled.make import Request, compile_engine
from glmcore.place.loader import plan_on_cpu

BOTH = ("prefill", "decode")
# Name → roles, prefill length, total length, least and most rows.
RECIPES = {
    "usual": (BOTH, 256, 2048, (1, 8)),
    "wide": (("prefill",), 1024, 2048, (1, 8)),
    "long": (BOTH, 2048, 8192, (1, 1)),
}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    shelf = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engines"
    shelf.mkdir(exist_ok=True)
    return shelf


@pytest.fixture(scope="session")
def shallow(shelf: Path) -> Path:
    """The demo model's checkpoint without all layers but the first, for as many tokens as anybody asks."""
    folder = shelf / "shallow"
    with FileLock(shelf / "shallow.lock"):
        if folder.exists():
            return folder
        shutil.copytree(demo.folder(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
        with open_checkpoint(demo.folder()) as whole:
            kept = [name for name in whole.names if ".layers." not in name or ".layers.0." in name]
            tensors = {name: whole.tensor(name) for name in kept}
        layout = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        write_safetensors(folder / "model.safetensors", layout, tensors.items())
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_layers": 1, "seq_length": 32768}))
    return folder


@pytest.fixture(scope="session")
def engine(shelf: Path, shallow: Path) -> Callable[[str], Path]:
    """The engine of a recipe, made of ``shallow`` in float32."""

    def made(name: str) -> Path:
        with FileLock(shelf / f"{name}.lock"):
            if not (shelf / name).exists():
                roles, pre_len, total_len, batch = RECIPES[name]
                with open_checkpoint(shallow) as checkpoint:
                    plan = plan_on_cpu(checkpoint.config, "float32")
                    request = Request(checkpoint.config, plan, name, pre_len, total_len, batch, roles)
                    compile_engine(request, shelf / name, checkpoint)
        return shelf / name

    return made


@pytest.fixture(scope="session")
def several(shelf: Path, engine: Callable[[str], Path]) -> Path:
    """An engine that reads prompts by 256 and by 1024 tokens."""
    with FileLock(shelf / "several.lock"):
        if not (shelf / "several").exists():
            combine([engine("usual"), engine("wide")], shelf / "several")
    return shelf / "several"
