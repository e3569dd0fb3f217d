"""From a folder or a name to an engine that answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from glmcore import demo
from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.locate import find_folder
from glmcore.config import ModelConfig
from glmcore.engine.backend import describe_backend
from glmcore.engine.batch.loop import MAX_STALL
from glmcore.engine.batch.prefixes import USUAL
from glmcore.engine.batch.room import room_of
from glmcore.engine.engine import Engine
from glmcore.engine.placing import load_planned, plan_for, plan_on_gpus
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.kernels.load import kernel_or_torch
from glmcore.kernels.threads import default_threads
from glmcore.place.adapters import open_adapter
from glmcore.place.loader import dtype_name, target_config
from glmcore.place.multi_devices import place_model, placement_from_map
from glmcore.plan import Plan
from glmcore.plan.devices import is_cpu
from glmcore.tokenizers import load_tokenizer
from glmcore.versions import untested

# Types that the CPU keeps keys and values in.
CACHES = ("float32", "bfloat16")

log = logging.getLogger("glmcore")


def load(
    model: str | Path | None = None,
    *,
    adapter: str | Path | None = None,
    plan: Plan | Mapping[str, Any] | str | Path | None = None,
    quantize: str | None = None,
    dtype: str | torch.dtype | None = None,
    kernel_file: str | None = None,
    precision: str = "fast",
    cache: str | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    parallel: int | None = None,
    context: int | None = None,
    max_stall: float = MAX_STALL,
    prefix_bytes: int = USUAL,
    lookup: bool = True,
) -> Engine:
    """The engine for a checkpoint folder or a name in the local hub cache; the demo model where ``model`` is None.

    adapter: the folder of a LoRA or a P-Tuning v2. plan: a plan or its file; transformers' device maps are taken too,
    by module names or as "auto", "balanced", "sequential". quantize: "int8" or "int4", while loading. dtype: of what
    is not quantised, torch's own or its name. precision: of the inputs of quantised layers on the CPU, "fast" (16 bits
    in answers, 8 in prompts), "light" (8 in both) or "exact" (float32). cache: the type of keys and values on the CPU,
    "float32" (the default) or "bfloat16". progress: called with bytes done and bytes in all. parallel: answers that are
    made at once at most; as many as pay where None, and never more than memory is left for. context: tokens of a prompt
    and its answer at most; the model's own where None, and never more than fit. max_stall: seconds that an answer waits
    at most while others' prompts are read, a piece of them at least. prefix_bytes: what the beginnings of earlier
    prompts may take. lookup: whether what follows is guessed from the text itself and checked, which changes no bit.
    Errors: GlmError, each before anything large is read where that can be.
    """
    say_untested()
    check_cache(cache, precision)
    named = dtype_name(dtype)
    torch.set_num_threads(threads or default_threads())
    folder = demo.folder() if model is None else find_folder(model)
    with open_checkpoint(folder) as checkpoint:
        config = target_config(checkpoint.config, quantize)
        made = plan_for(plan, config, named, cache)
        check_cache(made.cache, precision)
        config = target_config(config, made.quantize)
        tokenizer = load_tokenizer(folder, config)
        added = open_adapter(adapter, config) if adapter is not None else None
        wanted = kernel_file or needs_kernel(made, config)
        kernel = kernel_or_torch(kernel_file, threads=threads, precision=precision) if wanted else None
        computing = {"kernel": kernel, "operators": precision != "exact"}
        module = load_planned(checkpoint, made, config, progress=progress, **computing)
    if added is not None:
        added.apply(module)
    return Engine(
        config, tokenizer, Runner(module, config, made.cache), describe_backend(module), parallel=parallel,
        context=context, max_stall=max_stall, room=room_of(made, config), prefix_bytes=prefix_bytes, lookup=lookup,
        plan=made,
    )  # fmt: skip


def check_cache(cache: str | None, precision: str) -> None:
    """GlmError("usage") for a type that keys and values can't be kept in."""
    if cache not in (None, *CACHES):
        raise GlmError("usage", f"no cache of {cache!r}", hint=f"choose from {', '.join(CACHES)}")
    if cache == "bfloat16" and precision == "exact":
        hint = "leave --cache away, or choose --precision fast"
        raise GlmError("usage", "exact keeps keys and values in float32", where="--cache", hint=hint)


@cache
def say_untested() -> None:
    """One line, once a process, where torch is newer than the newest tested."""
    for line in untested("torch"):
        log.warning(line)


def needs_kernel(plan: Plan, config: ModelConfig) -> bool:
    """Whether the CPU's kernel has anything to do: matrices that are quantised, or kept in 16 bits, on the CPU."""
    kept = any(is_cpu(share.name) and share.stored != share.computing for share in plan.devices if share.pieces)
    return bool(config.quantization_bit) or kept


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
