"""From a checkpoint to a stage: its layers alone are read."""

from __future__ import annotations

from pathlib import Path

import torch

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.locate import find_folder
from glmcore.engine.batch.room import room_of
from glmcore.engine.load import check_cache, needs_kernel
from glmcore.engine.stages.stage import Stage
from glmcore.kernels.load import kernel_or_torch
from glmcore.kernels.threads import default_threads
from glmcore.machine import free_memory
from glmcore.place.adapters import open_adapter
from glmcore.place.loader import USUAL_CONTEXT, Progress, default_dtype, dtype_name, load_model, target_config
from glmcore.place.part import Part
from glmcore.plan import Device, Plan, Precision, stage_plan


def load_stage(
    model: str | Path | None,
    first: int,
    last: int,
    *,
    name: str = "",
    adapter: str | Path | None = None,
    plan: Plan | None = None,
    quantize: str | None = None,
    dtype: str | torch.dtype | None = None,
    kernel_file: str | None = None,
    precision: str = "fast",
    cache: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Stage:
    """The layers ``first`` to before ``last`` of a checkpoint (counted from 0), with its embedding, or its final norm
    and head, where they are its first or last.

    plan: where they lie and in which types (``plan.stage_plan``), the CPU where None. name: what errors and statistics
    call the stage. adapter: the folder of a LoRA, given to every stage. The others as ``glmcore.load``. Stages of one
    model have the bits of it in one piece where they are loaded by the same ``dtype``, ``precision``, ``cache`` and
    ``adapter`` on processors for which the same kernel is built.
    Errors: GlmError, also "plan-invalid" for layers that the model does not have.
    """
    check_cache(cache, precision)
    torch.set_num_threads(threads or default_threads())
    folder = demo.folder() if model is None else find_folder(model)
    with open_checkpoint(folder) as checkpoint:
        config = target_config(checkpoint.config, plan.quantize if plan else quantize)
        part = Part(config, first, last)
        made = plan or plan_on_cpu(part, dtype_name(dtype) or default_dtype(config), cache)
        check_cache(made.cache, precision)
        added = open_adapter(adapter, config).of_part(part) if adapter is not None else None
        wanted = kernel_file or needs_kernel(made, config)
        kernel = kernel_or_torch(kernel_file, threads=threads, precision=precision) if wanted else None
        module = load_model(
            checkpoint, plan=made, layers=(first, last), progress=progress, kernel=kernel,
            operators=precision != "exact",
        )  # fmt: skip
    if added is not None:
        added.apply(module)
    room = room_of(made, config).tokens
    return Stage(name or f"{first}-{last - 1}", module, part, made.cache, room, adapted=added is not None)


def plan_on_cpu(part: Part, dtype: str, cache: str | None) -> Plan:
    """For all the memory that is free now. Errors: GlmError("memory-short")."""
    devices = [Device("cpu", free_memory("cpu") or 1)]
    asked = Precision.of(part.config, dtype, cache=cache)
    context = min(USUAL_CONTEXT, part.config.max_length)
    return stage_plan(part.config, devices, part.first, part.last, precision=asked, context=context)
