"""An engine's weights: what the checkpoint holds as the graphs want it is mapped, the rest is written beside them.

Graphs read scales and biases in the type that they compute in, and matrices as the plan keeps them. A matrix that is
quantised, joined or converted on the way goes to ``weights.safetensors`` of the engine, one tensor at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glmcore.checkpoint import Checkpoint
from glmcore.checkpoint.tensor_files import SafetensorsFile, TensorInfo
from glmcore.checkpoint.writer import write_safetensors
from glmcore.compiled.manifest import Weights
from glmcore.config import ModelConfig
from glmcore.digest import sum_of
from glmcore.layout import bits_of, expected, parts, piece_of
from glmcore.place.loader import in_order, kept_dtype, made_here, stored
from glmcore.place.random import Drawer
from glmcore.plan import Plan
from glmcore.plan.devices import is_cpu

OWN = "weights.safetensors"


@dataclass(frozen=True)
class Wanted:
    """The constants of an engine by their names: those that a file holds as they are, and those that are written."""

    mapped: Mapping[Path, Mapping[str, str]]  # file → constant → the tensor's name there
    written: Mapping[str, TensorInfo]

    @property
    def nbytes(self) -> int:
        """Of what is written."""
        return sum(info.nbytes for info in self.written.values())


def wanted(checkpoint: Checkpoint | None, config: ModelConfig, plan: Plan, *, inside: bool = False) -> Wanted:
    """What the graphs of ``config``, placed by ``plan``, take.

    All of it is written where there is no checkpoint, or where all is to lie ``inside`` the engine.
    """
    mapped: dict[Path, dict[str, str]] = {}
    written: dict[str, TensorInfo] = {}
    for name, info in constants(checkpoint, config, plan).items():
        found = None if checkpoint is None or inside else as_it_is(checkpoint, config, name, info)
        if found is None:
            written[name] = info
        else:
            mapped.setdefault(found[0], {})[name] = found[1]
    return Wanted(mapped, written)


def constants(checkpoint: Checkpoint | None, config: ModelConfig, plan: Plan) -> dict[str, TensorInfo]:
    """Type and shape of every constant."""
    found = {}
    for name, spec in expected(config).items():
        piece = piece_of(config, name).name
        types, on_cpu = plan.types[piece], is_cpu(plan.placement[piece])
        if spec.optional:
            continue
        if spec.kind == "packed":
            dtype = torch.int8
        elif spec.kind == "scale":
            dtype = torch.float32 if on_cpu else torch.float16
        else:
            dtype = kept_dtype(config, name, types)
            if dtype is None:
                dtype = getattr(torch, types.stored) if checkpoint is None else checkpoint.info(name).dtype
        found[name] = TensorInfo(dtype, spec.shape)
    return found


def as_it_is(checkpoint: Checkpoint, config: ModelConfig, name: str, info: TensorInfo) -> tuple[Path, str] | None:
    """The file and the name under which the checkpoint holds a constant as the graphs want it, if it does."""
    if name not in parts(checkpoint.config) or made_here(checkpoint, config, name):
        return None
    of = list(parts(checkpoint.config)[name])
    file = checkpoint.holders.get(of[0])
    if len(of) > 1 or not isinstance(file, SafetensorsFile):
        return None
    held = file.tensors[of[0]]
    same = (held.dtype, held.shape) == (info.dtype, info.shape) and held.begin % held.dtype.itemsize == 0
    return (file.path.resolve(), of[0]) if same else None


def write_own(path: Path, checkpoint: Checkpoint | None, config: ModelConfig, wanted: Wanted) -> None:
    """Write what is not mapped to ``path``, one tensor after the other. Errors: OSError, and those of reading."""
    made = drawn(config, wanted) if checkpoint is None else converted(checkpoint, config, wanted)
    write_safetensors(path, wanted.written, made)


def converted(checkpoint: Checkpoint, config: ModelConfig, wanted: Wanted) -> Iterator[tuple[str, Tensor]]:
    """The tensors that are written, from the checkpoint's, quantised and converted, in the wanted shapes."""
    names = [
        name
        for name, spec in expected(checkpoint.config).items()
        if not spec.optional and (name in wanted.written or f"{name}_scale" in wanted.written)
    ]
    for _, tensors in in_order(names, lambda name: stored(checkpoint, config, name)):
        for name, tensor in tensors.items():
            if name in wanted.written:
                yield name, tensor.to(wanted.written[name].dtype)


def drawn(config: ModelConfig, wanted: Wanted) -> Iterator[tuple[str, Tensor]]:
    """Random tensors of the same shapes in their place: those that ``glmcore bench --random-weights`` draws."""
    draw, cpu = Drawer(seed=0), torch.device("cpu")
    for name, info in wanted.written.items():
        like = torch.empty(info.shape, dtype=info.dtype, device="meta")
        yield name, draw(name, like, info.dtype, bits_of(config, name), cpu)


def described(wanted: Wanted, own: Path | None) -> tuple[Weights, ...]:
    """The manifest's record of both, hashed; ``own`` is the file that was written, where any was. Errors: OSError."""
    records = []
    if own is not None:
        found = sum_of(own)
        records.append(Weights(OWN, "inside", found.size, found.sha256, {name: name for name in wanted.written}))
    for path, tensors in wanted.mapped.items():
        found = sum_of(path)
        records.append(Weights(str(path), "mapped", found.size, found.sha256, dict(tensors)))
    return tuple(records)
