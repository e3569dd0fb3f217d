"""From a checkpoint to an engine: weights, graphs, archive, manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmcore.checkpoint import Checkpoint
from glmcore.checkpoint.writer import COMPANIONS
from glmcore.compiled import build, products
from glmcore.compiled.digest import sum_of
from glmcore.compiled.manifest import ARCHIVE, MANIFEST, Graph, Manifest, Weights
from glmcore.compiled.modules import bound, stage_graph, tell
from glmcore.compiled.opening import device_of, with_tied_head
from glmcore.compiled.record import GOLDEN, by_operators, capability, manifest_of
from glmcore.compiled.request import Request
from glmcore.compiled.weights import OWN, Wanted, described, wanted, write_own
from glmcore.compiled.work import DONE, Work, working
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.output import write_text

# What is being done, and how much of all is done: parts and parts in all.
Progress = Callable[[str, int, int], None]
PACKAGE = Path(__file__).parent.parent
# What a graph is made of, beside torch and the compiler.
SOURCES = (
    "compiled/build.py",
    "compiled/operators.py",
    "compiled/products.py",
    "compiled/stages.py",
    "models",
    "quant",
    "packing.py",
)


def compile_engine(
    request: Request, output: str | Path, checkpoint: Checkpoint | None, progress: Progress = lambda *_: None
) -> Manifest:
    """``compile_engines`` of one engine that has all roles."""
    [manifest] = compile_engines(request, {output: request.roles}, checkpoint, progress)
    return manifest


def compile_engines(
    request: Request, outputs: Mapping[str | Path, tuple[str, ...]], checkpoint: Checkpoint | None,
    progress: Progress = lambda *_: None,
) -> list[Manifest]:  # fmt: skip
    """Make an engine of some of the request's roles in each of the folders ``outputs``, which are there whole or not at
    all; with random weights where there is no checkpoint. A run that was stopped goes on with what it finished.

    Errors: GlmError("compile-failed", "write-failed") and those of reading.
    """
    cxx = build.compiler()
    build.keep_cache()
    steps = Steps(progress, 2 * len(request.graphs) + 2)
    with working(*(Path(os.path.abspath(output)) for output in outputs)) as work:
        needed = wanted(checkpoint, request.config, request.plan, inside=request.self_contained)
        steps.begin("weights")
        own = own_weights(work, request, needed, checkpoint) if needed.written else None
        constants = with_tied_head(request.config, bound(needed, own))
        parts = {graph.name: compiled(work, request, graph, constants, cxx, steps) for graph in request.graphs}
        steps.begin("writing")
        with work.engines() as folders:
            weights, manifests = described(needed, own), []
            for folder, roles in zip(folders, outputs.values(), strict=True):
                share = replace(request, roles=roles)
                if by_operators(request):
                    products.build(folder, cxx)
                if "golden" in roles:
                    tell(folder / GOLDEN, share, constants)
                manifests.append(put_together(folder, share, weights, parts, checkpoint))
                if own is not None:
                    os.link(own, folder / OWN)
    steps.end()
    return manifests


class Steps:
    """Tells how far the work is, in steps."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.begun = progress, total, -1

    def begin(self, label: str) -> None:
        self.begun += 1
        self.progress(label, self.begun, self.total)

    def end(self) -> None:
        self.progress("", self.total, self.total)


def own_weights(work: Work, request: Request, needed: Wanted, checkpoint: Checkpoint | None) -> Path:
    """The file of the tensors that no file of the checkpoint has as they are wanted. Errors: as ``compile_engine``."""
    sources = [] if checkpoint is None else [(str(path), *stat_of(path)) for path in checkpoint.paths]
    made_by = {
        "config": fields_of(request.config),
        "from": sources,
        "tensors": {n: str(i) for n, i in needed.written.items()},
    }

    def fill(folder: Path) -> None:
        check_room(folder, needed.nbytes)
        write_own(folder / OWN, checkpoint, request.config, needed)

    return work.make("weights", made_by, fill) / OWN


def compiled(work: Work, request: Request, graph: Graph, constants: dict[str, Tensor], cxx: str, steps: Steps) -> Path:
    """The folder with the files of a graph, from an earlier run where that made it of the same.

    constants: of the checkpoint's shapes. Errors: as ``compile_engine``.
    """
    stage = request.stages[graph.stage]
    device = device_of(stage.device)
    made_by = {
        "graph": asdict(graph), "stage": asdict(stage), "config": fields_of(request.config), "batch": request.batch,
        "total_len": request.total_len, "torch": torch.__version__, "sources": sources_hash(), "device": device.type,
        "capability": capability(device), "compiler": (os.path.realpath(cxx), *stat_of(Path(cxx))),
        "instructions": build.instructions(),
    }  # fmt: skip

    def fill(folder: Path) -> None:
        module = stage_graph(request, graph, constants)
        shape = build.Shape(request.batch, request.total_len)
        program = build.export(module, build.example(request.config, stage, graph, shape, device), shape)
        steps.begin(f"compiling {graph.name}")
        for path in build.compile_graph(program, cxx, device):
            shutil.copy(path, folder)

    steps.begin(f"exporting {graph.name}")
    before = steps.begun
    made = work.make(f"graph.{graph.name}", made_by, fill)
    if steps.begun == before:  # it was there
        steps.begin(f"kept {graph.name}")
    return made


def put_together(
    folder: Path, request: Request, weights: tuple[Weights, ...], parts: dict[str, Path], checkpoint: Checkpoint | None
) -> Manifest:
    """Archive, tokenizer and manifest of an engine, in ``folder``."""
    from torch._inductor.package import package_aoti

    archive = {
        name: [str(path) for path in sorted(parts[name].iterdir()) if path.name != DONE and path.suffix != ".cpp"]
        for name in (graph.name for graph in request.graphs)
    }
    package_aoti(str(folder / ARCHIVE), archive)
    if checkpoint is not None:
        for pattern in (*COMPANIONS, "config.json"):
            for path in filter(Path.is_file, checkpoint.folder.glob(pattern)):
                shutil.copyfile(path, folder / path.name)
    manifest = manifest_of(request, weights, {path.name: sum_of(path) for path in sorted(folder.iterdir())})
    write_text(folder / MANIFEST, manifest.text())
    return manifest


def check_room(folder: Path, needed: int) -> None:
    """GlmError("write-failed") where the disk has no room for the weights."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{needed / 1e9:.1f} GB of weights are to be written and {free / 1e9:.1f} GB are free"
        raise GlmError("write-failed", what, where=str(folder), hint="make room, or choose another disk")


def fields_of(config: ModelConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name != "raw"}


def stat_of(path: Path) -> tuple[int, int]:
    """Size and time of a file's change."""
    status = os.stat(os.path.realpath(path))
    return status.st_size, status.st_mtime_ns


def sources_hash() -> str:
    """Of the modules that a graph is made of."""
    digest = hashlib.sha256()
    for name in SOURCES:
        place = PACKAGE / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
