"""From an engine's folder to graphs that run: everything is checked first, then code is loaded and weights bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from torch import Tensor

from glmcore.checkpoint.tensor_files import SafetensorsFile
from glmcore.compiled import operators
from glmcore.compiled.checks import check_files, check_owner, damaged, foreign, here, path_of, read_manifest
from glmcore.compiled.manifest import ARCHIVE, Graph, Manifest
from glmcore.compiled.opened import Opened, Runner
from glmcore.compiled.products import LIBRARY, bound
from glmcore.config import ModelConfig
from glmcore.kernels.load import kernel_or_torch
from glmcore.kernels.threads import default_threads
from glmcore.layout import layout, pieces
from glmcore.plan.devices import is_cpu

MODEL = "model."  # before every constant's name: the graphs' module holds the model under this name


def open_engine(
    folder: str | Path, *, precision: str = "fast", threads: int | None = None, kernel_file: str | None = None
) -> Opened:
    """The engine in ``folder``, ready to run.

    precision, threads, kernel_file: as ``glmcore.load`` takes them. Errors: GlmError("model-path", "engine-invalid",
    "engine-damaged", "engine-foreign"), all before anything of the engine is run.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    refused = foreign(manifest.built, here(torch.__version__, capabilities()))
    if refused is not None:
        raise refused
    check_owner(folder / ARCHIVE)
    check_files(folder, manifest)
    torch.set_num_threads(threads or default_threads())
    if manifest.built.kernel:
        kernel = kernel_or_torch(kernel_file, threads=threads, precision=precision)
        operators.computing.use(kernel)
        if LIBRARY in manifest.files:
            check_owner(folder / LIBRARY)
            bound.load(folder / LIBRARY)
        bound.use(kernel)
    constants = placed(manifest, mapped(folder, manifest))
    runners = {graph.name: runner_of(folder, manifest, graph, constants[graph.stage]) for graph in manifest.graphs}
    return Opened(folder, manifest, runners, taken(manifest, constants))


def capabilities() -> tuple[str, ...]:
    """Of this machine's cards, each once."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = (torch.cuda.get_device_capability(number) for number in range(count))
    return tuple(dict.fromkeys(f"{major}.{minor}" for major, minor in found))


def mapped(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """Every constant in the pages of its file, in the shape it has there.

    Errors: GlmError("engine-damaged") where the file holds one of them no more.
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as files:
        for part in manifest.weights:
            file = files.enter_context(closing(SafetensorsFile(path_of(folder, part))))
            missing = [name for name in part.tensors.values() if name not in file.tensors]
            if missing:
                what = f"{file.path.name} holds no {missing[0]}, which {ARCHIVE} takes from there"
                raise damaged(what, folder, "compile it anew")
            found |= {constant: file.mapped(name) for constant, name in part.tensors.items()}
    return found


def with_tied_head(config: ModelConfig, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The constants in their shapes, and the embedding's under the names of a head that is its own matrix [V, H]."""
    if not config.tie_embeddings:
        return dict(constants)
    names = layout(config)
    shared = {name: tensor for name, tensor in constants.items() if name.startswith(f"{names.embedding}.")}
    return {**constants, **{names.lm_head + name[len(names.embedding) :]: tensor for name, tensor in shared.items()}}


def placed(manifest: Manifest, constants: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Each stage's constants on its device, in their shapes."""
    config, known = manifest.config, with_tied_head(manifest.config, constants)
    of = {piece.name: [name for name in piece.tensors if name in known] for piece in pieces(config)}
    return [
        {name: known[name].to(device_of(stage.device)) for piece in stage.pieces for name in of[piece]}
        for stage in manifest.stages
    ]


def device_of(name: str) -> torch.device:
    """The device that a plan's name stands for; logical ones of the CPU are one."""
    return torch.device("cpu") if is_cpu(name) else torch.device(name)


def taken(manifest: Manifest, constants: Sequence[Mapping[str, Tensor]]) -> dict[str, int]:
    """Device → bytes of the constants, of any shape, that lie there, each counted once."""
    found: dict[str, dict[int, int]] = {stage.device: {} for stage in manifest.stages}
    for stage, own in zip(manifest.stages, constants, strict=True):
        found[stage.device] |= {tensor.data_ptr(): tensor.nbytes for tensor in own.values()}
    return {device: sum(sizes.values()) for device, sizes in found.items()}


def runner_of(folder: Path, manifest: Manifest, graph: Graph, constants: Mapping[str, Tensor]) -> Runner:
    """A graph of the archive, its constants bound to tensors that it does not copy, in the shapes it was compiled for.

    What it gives raises the error of a product that failed, else torch's RuntimeError.
    """
    device = device_of(manifest.stages[graph.stage].device)
    loader = torch._C._aoti.AOTIModelPackageLoader(str(folder / ARCHIVE), graph.name, False, 1, device.index or -1)
    held = {name: constants[name.removeprefix(MODEL)] for name in loader.get_constant_fqns()}
    loader.load_constants(held, False, True, True, False)

    def run(inputs: list[Tensor]) -> list[Tensor]:
        assert held is not None  # the graph has the constants' addresses alone
        try:
            return loader.run(inputs)
        except RuntimeError as error:
            raise bound.failed() or error from error

    return run
