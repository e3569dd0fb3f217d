"""From a folder or a name to an engine that answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.locate import find_folder
from glmcore.config import ModelConfig
from glmcore.engine.backend import describe_backend
from glmcore.engine.engine import Engine
from glmcore.engine.placing import load_planned, plan_on_gpus, read_plan
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.kernels.load import kernel_or_torch
from glmcore.kernels.threads import default_threads
from glmcore.place.adapters import open_adapter
from glmcore.place.loader import default_dtype, dtype_of, load_model, table_dtype, target_config
from glmcore.place.multi_devices import place_model, placement_from_map
from glmcore.plan import Device, Plan, Precision, format_size, make_plan
from glmcore.quant.operators import use_operators
from glmcore.tokenizers import load_tokenizer
from glmcore.versions import untested

log = logging.getLogger("glmcore")

# The context for which memory is asked before loading; the cache itself grows as it is filled.
EXPECTED_CONTEXT = 2048


def load(
    model: str | Path | None = None,
    *,
    adapter: str | Path | None = None,
    plan: Plan | Mapping[str, Any] | str | Path | None = None,
    quantize: str | None = None,
    dtype: torch.dtype | str | None = None,
    kernel_file: str | None = None,
    precision: str = "fast",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Engine:
    """The engine for a checkpoint folder or a name in the local hub cache; the demo model where ``model`` is None.

    adapter: the folder of a LoRA or a P-Tuning v2. plan: a plan or its file; transformers' device maps are taken too,
    by module names or as "auto", "balanced", "sequential". quantize: "int8" or "int4", while loading. dtype: of what
    is not quantised, torch's own or its name. precision: of the inputs of quantised layers on the CPU, "fast" (16 bits
    in answers, 8 in prompts), "light" (8 in both) or "exact" (float32). progress: called with bytes done and bytes in
    all.
    Errors: GlmError, each before anything large is read where that can be.
    """
    say_untested()
    chosen = dtype_of(dtype)
    torch.set_num_threads(threads or default_threads())
    folder = demo.folder() if model is None else find_folder(model)
    with open_checkpoint(folder) as checkpoint:
        config = target_config(checkpoint.config, quantize)
        given = read_plan(plan, config)
        if given is not None:
            config = target_config(config, given.quantize)
        else:
            check_memory(config, chosen or default_dtype(config))
        tokenizer = load_tokenizer(folder, config)
        added = open_adapter(adapter, config) if adapter is not None else None
        quantised = config.quantization_bit or kernel_file
        kernel = kernel_or_torch(kernel_file, threads=threads, precision=precision) if quantised else None
        settings = {"quantize": quantize, "dtype": chosen, "kernel": kernel, "progress": progress}
        if given is None:
            module = load_model(checkpoint, **settings)
        else:
            module = load_planned(checkpoint, given, config, **settings)
    if config.quantization_bit and kernel is None and precision != "exact":
        use_operators(module)
    if added is not None:
        added.apply(module)
    return Engine(config, tokenizer, Runner(module, config), describe_backend(module))


@cache
def say_untested() -> None:
    """One line, once a process, where torch is newer than the newest tested."""
    for line in untested("torch"):
        log.warning(line)


def check_memory(config: ModelConfig, dtype: torch.dtype) -> None:
    """GlmError("memory-short"), with what would fit, where the weights and a usual context exceed the free memory."""
    free = psutil.virtual_memory().available
    weights, cache = (str(kind).removeprefix("torch.") for kind in (table_dtype(config, dtype), dtype))
    precision = Precision.of(config, weights, cache_dtype=cache)
    context = min(EXPECTED_CONTEXT, config.max_length)
    made = make_plan(config, [Device("cpu", free)], precision=precision, context=context)
    if not made.fits:
        raise GlmError(
            "memory-short",
            f"{config.name} needs {format_size(made.missing_bytes)} more than the {format_size(free)} that are free",
            hint=f"would fit: {', '.join(made.would_fit)}",
        )


def load_model_on_gpus(
    model: str | Path | Engine, num_gpus: int = 2, device_map: Mapping[str, Any] | None = None, **settings: Any
) -> Engine:
    """As THUDM's scripts call it: a checkpoint, or an engine that is loaded already, over ``num_gpus`` cards.

    device_map: module name → card; without one the cards' largest share is as small as it can be.
    """
    if isinstance(model, Engine):
        return place_on_gpus(model, num_gpus, device_map)
    if device_map is not None:
        return load(model, plan=device_map, **settings)
    with open_checkpoint(find_folder(model)) as checkpoint:
        config = target_config(checkpoint.config, settings.get("quantize"))
    return load(model, plan=plan_on_gpus(config, num_gpus), **settings)


def place_on_gpus(engine: Engine, num_gpus: int, device_map: Mapping[str, Any] | None) -> Engine:
    """Move a loaded engine's model; its cache begins anew."""
    given = placement_from_map(engine.config, device_map) if device_map is not None else None
    place_model(engine.runner.model, given or plan_on_gpus(engine.config, num_gpus).placement)
    engine.placed()
    return engine
