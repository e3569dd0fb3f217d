"""From a checkpoint to an engine: weights, graphs, archive, manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glmcore.checkpoint import Checkpoint
from glmcore.checkpoint.writer import COMPANIONS
from glmcore.compiled import build, products
from glmcore.compiled.crew import Crew
from glmcore.compiled.manifest import ARCHIVE, MANIFEST, Graph, Manifest, Weights
from glmcore.compiled.modules import bound, tell
from glmcore.compiled.opening import device_of, with_tied_head
from glmcore.compiled.record import GOLDEN, by_operators, capability, manifest_of
from glmcore.compiled.request import Request
from glmcore.compiled.weights import OWN, Wanted, described, wanted, write_own
from glmcore.compiled.work import DONE, Work, working
from glmcore.config import ModelConfig
from glmcore.digest import FileSum, sum_of
from glmcore.errors import GlmError
from glmcore.kernels.threads import usable_cpus
from glmcore.output import write_text
from glmcore.plan import format_size

# What is being done, and how much of all is done: parts and parts in all.
Progress = Callable[[str, int, int], None]
PACKAGE = Path(__file__).parent.parent
WEIGHTS = "weights"  # the folder of the engine's own, while it is being made
MOST_AT_ONCE = 4  # a process takes up to a gigabyte of memory
STEPS = 2  # of a graph: exporting and compiling
# What a graph is made of, beside torch and the compiler.
SOURCES = (
    "compiled/build.py",
    "compiled/graphs.py",
    "compiled/modules.py",
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
    progress: Progress = lambda *_: None, companions: Path | None = None,
) -> list[Manifest]:  # fmt: skip
    """Make an engine of some of the request's roles in each of the folders ``outputs``, which are there whole or not at
    all; with random weights where there is no checkpoint. A run that was stopped goes on with what it finished.

    companions: the folder whose tokenizer is copied along where there is no checkpoint.
    Errors: GlmError("compile-failed", "write-failed") and those of reading.
    """
    cxx = build.compiler()
    build.keep_cache()
    steps = Steps(progress, STEPS * len(request.graphs) + 2)
    companions = companions if checkpoint is None else checkpoint.folder
    with working(*(Path(os.path.abspath(output)) for output in outputs)) as work:
        needed = wanted(checkpoint, request.config, request.plan, inside=request.self_contained)
        steps.begin("weights")
        own = own_weights(work, request, needed, checkpoint) if needed.written else None
        weights = described(needed, own)
        parts = compiled(work, request, weights, cxx, steps)
        steps.begin("writing")
        with work.engines() as folders:
            manifests = []
            for folder, roles in zip(folders, outputs.values(), strict=True):
                share = replace(request, roles=roles)
                if by_operators(request):
                    products.build(folder, cxx)
                if "golden" in roles:
                    tell(folder / GOLDEN, share, with_tied_head(request.config, bound(needed, own)))
                manifests.append(put_together(folder, share, weights, parts, companions))
                if own is not None:
                    os.link(own, folder / OWN)
    steps.end()
    return manifests


class Steps:
    """Tells how far the work is, in steps; several of them may be done side by side."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.begun, self.lock = progress, total, 0, threading.Lock()

    def begin(self, label: str, count: int = 1) -> None:
        """The next step, or the next ``count`` at once."""
        with self.lock:
            self.progress(label, self.begun, self.total)
            self.begun += count

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
        check_room(work.folder, needed.nbytes)
        write_own(folder / OWN, checkpoint, request.config, needed)

    return work.make(WEIGHTS, made_by, fill) / OWN


def compiled(work: Work, request: Request, weights: tuple[Weights, ...], cxx: str, steps: Steps) -> dict[str, Path]:
    """The folder with the files of each graph, from an earlier run where that made it of the same.

    Errors: as ``compile_engine``.
    """
    crew = Crew()
    # The archive is still to come, and the reference call.
    draft = replace(manifest_of(request, weights, {ARCHIVE: FileSum(0, "")}), golden=None).text()

    def make(graph: Graph, made_by: dict[str, Any]) -> Path:
        kept = True

        def fill(folder: Path) -> None:
            nonlocal kept
            kept = False
            task = {"manifest": draft, "graph": graph.name, "weights": str(work.folder / WEIGHTS), "compiler": cxx}
            crew.compile({**task, "into": str(folder)}, steps.begin)

        made = work.make(f"graph.{graph.name}", made_by, fill)
        if kept:
            steps.begin(f"kept {graph.name}", STEPS)
        return made

    jobs = {graph.name: partial(make, graph, made_of(request, graph, cxx)) for graph in request.graphs}
    return crew.share(jobs, at_once(request))


def made_of(request: Request, graph: Graph, cxx: str) -> dict[str, Any]:
    """All that a graph is made of and by."""
    stage = request.stages[graph.stage]
    device = device_of(stage.device)
    return {
        "graph": asdict(graph), "stage": asdict(stage), "config": fields_of(request.config), "batch": request.batch,
        "total_len": request.total_len, "torch": torch.__version__, "sources": sources_hash(), "device": device.type,
        "capability": capability(device), "compiler": (os.path.realpath(cxx), *stat_of(Path(cxx))),
        "instructions": build.instructions(),
    }  # fmt: skip


def at_once(request: Request) -> int:
    """Graphs that are compiled side by side: one for each core; of a card's one, which has its weights there."""
    if any(device_of(stage.device).type == "cuda" for stage in request.stages):
        return 1
    return min(len(request.graphs), usable_cpus(), MOST_AT_ONCE)


def put_together(
    folder: Path, request: Request, weights: tuple[Weights, ...], parts: dict[str, Path], companions: Path | None
) -> Manifest:
    """Archive, tokenizer and manifest of an engine, in ``folder``."""
    from torch._inductor.package import package_aoti

    archive = {
        name: [str(path) for path in sorted(parts[name].iterdir()) if path.name != DONE and path.suffix != ".cpp"]
        for name in (graph.name for graph in request.graphs)
    }
    package_aoti(str(folder / ARCHIVE), archive)
    if companions is not None:
        for pattern in (*COMPANIONS, "config.json"):
            for path in filter(Path.is_file, companions.glob(pattern)):
                shutil.copyfile(path, folder / path.name)
    manifest = manifest_of(request, weights, {path.name: sum_of(path) for path in sorted(folder.iterdir())})
    write_text(folder / MANIFEST, manifest.text())
    return manifest


def check_room(folder: Path, needed: int) -> None:
    """GlmError("write-failed") where the disk has no room for the weights."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"{format_size(needed)} of weights are to be written and {format_size(free)} are free"
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
