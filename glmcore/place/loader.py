"""Carries out a plan: each tensor goes from its file straight to its device, quantised on the way if asked.

The model is built without memory and filled tensor by tensor, so the peak is the finished model and the few tensors
in flight. What the CPU uses as the file has it stays in the file's own pages. The plan says in which types each piece
is kept and computes: where they differ, matrices keep their 16 bits and are widened as they are used.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glmcore.checkpoint import Checkpoint, open_checkpoint
from glmcore.config import DTYPES, ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import bits_of, expected, piece_of
from glmcore.models import build
from glmcore.place.hops import pieces_of
from glmcore.place.multi_devices import check_present
from glmcore.place.part import Part
from glmcore.place.ready import ready
from glmcore.plan import Device, Plan, Precision, Types, format_size, make_plan, pieces
from glmcore.quant.convert import keep_halves
from glmcore.quant.linear import QuantEmbedding
from glmcore.quant.schemes import quantize_matrix

READERS = 2
# Tokens of cache that are counted where nobody says how many; the cache itself grows as it is filled.
USUAL_CONTEXT = 2048
UNCOUNTED = 2**62  # bytes of a device whose memory nobody counts
# The share of the free memory that weights in float32 may take; the rest is for the cache and the workspace.
FLOAT32_SHARE = 0.7

Tensors = dict[str, Tensor]
Progress = Callable[[int, int], None]  # bytes of the checkpoint done, bytes in all


def load_model(
    checkpoint: Checkpoint | str | Path,
    *,
    quantize: str | None = None,
    dtype: torch.dtype | str | None = None,
    plan: Plan | None = None,
    layers: tuple[int, int] | None = None,
    progress: Progress | None = None,
    **computing: Any,
) -> nn.Module:
    """The model of ``checkpoint`` in eval mode, ready for inference.

    layers: the first and the one behind the last of those that are loaded alone, all where None (``place.part``).

    quantize: None, "int8" or "int4"; dtype: of what is not quantised; both are the plan's where one is given. Without
    one everything is on the CPU. computing: the kernel and the rest of what ``ready`` takes. ``model.config`` describes
    the model as it is now.
    Errors: GlmError("memory-short") where a device has no memory left; what was placed is freed then.
    """
    if not isinstance(checkpoint, Checkpoint):
        with open_checkpoint(checkpoint) as opened:
            asked = {"quantize": quantize, "dtype": dtype, "plan": plan, "layers": layers, "progress": progress}
            return load_model(opened, **asked, **computing)
    if plan is None:
        plan = plan_on_cpu(target_config(checkpoint.config, quantize), dtype)
    config = target_config(checkpoint.config, plan.quantize)
    part = Part(config, *(layers or (0, config.num_layers)))
    placement, types = part.of(plan.placement), part.of(plan.types)
    check_present(placement.values())
    model = empty_model(part.own_config, types)
    part.leave_out(model)
    try:
        fill(model, checkpoint, part, plan, progress)
    except BaseException as error:
        model.to("meta")
        free_frames(error)
        raise
    if config.tie_embeddings and part.is_last:
        tie(model)
    return ready(model, placement, **computing)


def fill(model: nn.Module, checkpoint: Checkpoint, part: Part, plan: Plan, progress: Progress | None = None) -> None:
    """Read every tensor of the part and put it in its place."""
    wanted = {name for name, spec in expected(checkpoint.config).items() if not spec.optional}
    names = [name for name in part.tensors if name in wanted]
    types, placement = plan.types, plan.placement
    total, done = sum(checkpoint.info(name).nbytes for name in names), 0

    def read(name: str) -> Tensors:
        piece = piece_of(part.config, name).name
        return _read(checkpoint, part.config, name, types[piece], placement[piece])

    for name, tensors in in_order(names, read):
        for key, tensor in tensors.items():
            assign(model, part.name_here(key), tensor)
        done += checkpoint.info(name).nbytes
        if progress is not None:
            progress(done, total)


def free_frames(error: BaseException) -> None:
    """Let go of the tensors that the frames of ``error`` and of what caused it hold, and of what a card keeps back."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def target_config(config: ModelConfig, quantize: str | None) -> ModelConfig:
    """The configuration after quantising while loading.

    Errors: GlmError("usage") for what is no quantisation, or for a checkpoint that is quantised otherwise already.
    """
    if quantize is None:
        return config
    if quantize not in ("int8", "int4"):
        raise GlmError("usage", f"{quantize!r} is no quantisation", hint="choose int8 or int4")
    bits = int(quantize.removeprefix("int"))
    if config.quantization_bit not in (0, bits):
        raise GlmError(
            "usage", f"{config.name} is already quantised to int{config.quantization_bit}, not {quantize}",
            hint="load it without quantisation, or the original checkpoint",
        )  # fmt: skip
    return config.quantised(bits)


def plan_on_cpu(
    config: ModelConfig, dtype: str | torch.dtype | None = None, *, free: int | None = None, cache: str | None = None
) -> Plan:
    """The plan of a model that the CPU holds alone, in ``default_dtype`` where no type is asked for.

    free: bytes that it may take; None where nobody counts them. cache: the type of keys and values.
    """
    named = dtype_name(dtype) or default_dtype(config)
    context = min(USUAL_CONTEXT, config.max_length)
    devices = [Device("cpu", free or UNCOUNTED)]
    return make_plan(config, devices, precision=Precision.of(config, named, cache=cache), context=context)


def default_dtype(config: ModelConfig) -> str:
    """float32, the CPU's fastest and most exact type; the checkpoint's where all weights would not fit in it."""
    needed = sum(piece.weights for piece in pieces(config, Precision.of(config, "float32"), "cpu"))
    fits = config.quantization_bit or needed <= FLOAT32_SHARE * psutil.virtual_memory().available
    return "float32" if fits else config.dtype


def dtype_name(dtype: torch.dtype | str | None) -> str | None:
    """The name of a type that is given as torch's or by its name ("float32", "torch.float32"); GlmError("usage")
    for what is none of ``config.DTYPES``."""
    name = str(dtype).removeprefix("torch.")
    if dtype is not None and (name not in DTYPES or not isinstance(dtype, (str, torch.dtype))):
        raise GlmError("usage", f"no type to compute in: {str(dtype)[:40]!r}", hint=f"one of {', '.join(DTYPES)}")
    return None if dtype is None else name


class NoInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: they are about to be read, and drawing random numbers for tensors without
    memory makes torch import its compiler (some seconds)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))


def empty_model(config: ModelConfig, types_of: Mapping[str, Types]) -> nn.Module:
    """The model of ``config`` on the meta device, each piece ready for weights of its types."""
    with torch.device("meta"), NoInitialisation():
        model = build(config)
        for name, module in pieces_of(model):
            types = types_of[name]
            if types.stored != types.computing:
                keep_halves(model, getattr(torch, types.computing), [module])
            for part in module.modules():
                if isinstance(part, QuantEmbedding):
                    part.dtype = getattr(torch, types.computing)
    return model


def kept_dtype(config: ModelConfig, name: str, types: Types) -> torch.dtype | None:
    """The type in which a tensor of the file is kept; None where it stays as it is.

    The tables of a quantised model, which keep the file's 16 bits, stay so whatever config.json says of their type.
    """
    spec, piece = expected(config)[name], piece_of(config, name)
    if spec.kind != "float":
        return None
    if len(spec.shape) == 2 and piece.is_table and config.quantization_bit and types.stored != types.computing:
        return None
    return getattr(torch, types.stored if len(spec.shape) == 2 else types.computing)


def made_here(checkpoint: Checkpoint, config: ModelConfig, name: str) -> bool:
    """Whether a tensor of the file is quantised on the way."""
    return checkpoint.info(name).dtype.is_floating_point and expected(config)[name].kind == "packed"


def stored(checkpoint: Checkpoint, config: ModelConfig, name: str) -> Tensors:
    """A tensor of the file as ``config`` stores it: with its scales where it is quantised on the way."""
    if made_here(checkpoint, config, name):

        def rows(first: int, last: int) -> Tensor:
            part = checkpoint.tensor(name, first, last)
            # Nothing prescribes a table's bytes: divided in float32, with scales in float16, it errs least.
            return part.float() if piece_of(config, name).is_table else part

        packed, scale = quantize_matrix(
            rows, checkpoint.info(name).shape, bits_of(config, name), in_float32=config.traits.scales_in_float32
        )
        return {name: packed, f"{name}_scale": scale}
    return {name: checkpoint.tensor(name)}


def _read(checkpoint: Checkpoint, config: ModelConfig, name: str, types: Types, device: str) -> Tensors:
    """A tensor of the file, with its scales where it is quantised, in the type and at the place where it is to work."""
    kept = kept_dtype(config, name, types)
    unchanged = kept in (None, checkpoint.info(name).dtype) and not made_here(checkpoint, config, name)
    with memory_for(name, "cpu", checkpoint.info(name).nbytes):  # whatever device it is for, it is read here
        if unchanged and device == "cpu":
            return {name: checkpoint.mapped(name)}
        read = stored(checkpoint, config, name)
    return {key: put(key, tensor, device, kept) for key, tensor in read.items()}


def put(name: str, tensor: Tensor, device: str, dtype: torch.dtype | None) -> Tensor:
    """The tensor, in its shape, on its device and in ``dtype`` where one is given.

    Errors: GlmError("memory-short") with its name and size.
    """
    with memory_for(name, device, tensor.numel() * (dtype or tensor.dtype).itemsize):
        return tensor.to(torch.device(device), dtype)


@contextmanager
def memory_for(name: str, device: str, size: int) -> Iterator[None]:
    """Let an allocator's refusal be GlmError("memory-short"), which names the tensor, its device and its bytes."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        what = f"{device} has no memory left for {format_size(size)}"
        raise GlmError("memory-short", what, where=name, hint="make a new plan: glmcore plan") from error


def out_of_memory(error: Exception) -> bool:
    """Whether an allocator said this: a card's, torch's on the CPU, or Python's."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def in_order(names: Iterable[str], read: Callable[[str], Tensors]) -> Iterator[tuple[str, Tensors]]:
    """Read in a few threads, a few tensors ahead of what is taken; what comes out is in order."""
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
        waiting: deque[tuple[str, Future[Tensors]]] = deque()
        for name in names:
            waiting.append((name, pool.submit(read, name)))
            if len(waiting) > READERS:
                first, result = waiting.popleft()
                yield first, result.result()
        for name, result in waiting:
            yield name, result.result()


def assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Let ``tensor``, of the shape that the module wants, be the parameter or buffer of that name."""
    parent, _, attribute = name.rpartition(".")
    module = model.get_submodule(parent)
    if attribute in module._parameters:
        module._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[attribute] = tensor


def tie(model: nn.Module) -> None:
    """Give the head the embedding's own tensors, packed or not."""
    model.lm_head.weight = model.embedding.weight
    if isinstance(model.embedding, QuantEmbedding):
        model.lm_head.weight_scale = model.embedding.weight_scale
