"""The modules that an engine's graphs are compiled from, with their weights: run as they are, its reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from glmcore.checkpoint import Checkpoint
from glmcore.checkpoint.tensor_files import SafetensorsFile, TensorInfo
from glmcore.checkpoint.writer import write_safetensors
from glmcore.compiled import operators
from glmcore.compiled.dumping import Dumping
from glmcore.compiled.manifest import Graph, Manifest, Stage
from glmcore.compiled.opened import Opened, Runner
from glmcore.compiled.opening import device_of, placed, taken, with_tied_head
from glmcore.compiled.operators import with_operators
from glmcore.compiled.record import by_operators, manifest_of
from glmcore.compiled.request import Request
from glmcore.compiled.stages import StageGraph
from glmcore.compiled.weights import OWN, Wanted, described, wanted, write_own
from glmcore.config import ModelConfig
from glmcore.kernels.load import kernel_or_torch
from glmcore.place.loader import assign, empty_model
from glmcore.plan import Types

REFERENCE = 12  # tokens of the reference call's prompt


def bound(needed: Wanted, own: Path | None) -> dict[str, Tensor]:
    """Every constant in the pages of its file, in the shape it has there."""
    files = {path: dict(tensors) for path, tensors in needed.mapped.items()}
    if own is not None:
        files[own] = {name: name for name in needed.written}
    found: dict[str, Tensor] = {}
    for path, tensors in files.items():
        file = SafetensorsFile(path)
        found |= {constant: file.mapped(name) for constant, name in tensors.items()}
        file.close()
    return found


def stage_graph(
    config: ModelConfig, types: Mapping[str, Types], stage: Stage, graph: Graph, constants: Mapping[str, Tensor]
) -> StageGraph:
    """The module of a graph, its weights on its device; constants: of the shapes that ``bound`` finds."""
    model = with_operators(empty_model(config, types))
    module = StageGraph(model, stage, telling=graph.role == "golden")
    for name, _ in [*module.model.named_parameters(remove_duplicate=False), *module.model.named_buffers()]:
        assign(module.model, name, constants[name].to(device_of(stage.device)))
    as_parameters(module)
    return module.eval()


def as_parameters(model: nn.Module) -> None:
    """Make parameters of all buffers: while torch compiles it copies these, which a graph might change, not those."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            delattr(module, name)
            module.register_parameter(name, nn.Parameter(buffer, requires_grad=False))


def as_runner(module: StageGraph) -> Runner:
    """A module as a graph is called."""

    def run(inputs: list[Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            return list(module(*inputs))

    return run


def by_modules(request: Request, constants: Mapping[str, Tensor], manifest: Manifest, folder: Path) -> Opened:
    """The engine with each graph's module in its place; constants: of the shapes that ``bound`` finds."""
    modules = {
        graph.name: stage_graph(request.config, request.plan.types, request.stages[graph.stage], graph, constants)
        for graph in request.graphs
    }
    runners = {name: as_runner(module) for name, module in modules.items()}
    return Opened(folder, manifest, runners, taken(manifest, placed(manifest, constants)))


def uncompiled(request: Request, checkpoint: Checkpoint | None, folder: Path) -> Opened:
    """The engine of ``request`` that runs the modules its graphs would be compiled from; weights go to ``folder``."""
    needed = wanted(checkpoint, request.config, request.plan)
    own = folder / OWN if needed.written else None
    if own is not None:
        write_own(own, checkpoint, request.config, needed)
    constants = with_tied_head(request.config, bound(needed, own))
    return by_modules(request, constants, manifest_of(request, described(needed, own), {}), folder)


def tell(path: Path, request: Request, constants: Mapping[str, Tensor]) -> None:
    """Write what the modules compute of one prompt, a row of it for each row of the engine, as a dump's call.

    constants: of the shapes that ``bound`` finds.
    """
    kernel = kernel_or_torch(precision="exact") if by_operators(request) else None
    operators.computing.use(kernel)
    engine = by_modules(request, constants, manifest_of(request, (), {}), path.parent)
    engine.watch = Dumping(OneCall(path))
    count = min(REFERENCE, request.pre_len)
    ids = [number % (request.config.vocab_size // 2) + 1 for number in range(count)]
    if not request.config.traits.causal:
        ids[-2:] = [request.config.gmask_token_id, request.config.bos_token_id]
    engine.prefill([ids] * request.batch[0], engine.caches())


class OneCall:
    """Keeps a dump's call in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, role: str, tensors: Mapping[str, Tensor]) -> None:
        layout = {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        write_safetensors(self.path, layout, tensors.items())
