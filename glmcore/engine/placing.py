"""Carries a plan out on the machine as it is now: a device that has lost memory since is planned around, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glmcore.checkpoint import Checkpoint
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.machine import free_memory, present_devices
from glmcore.place.loader import USUAL_CONTEXT, dtype_name, load_model, plan_on_cpu
from glmcore.place.multi_devices import placement_from_map
from glmcore.plan import Device, Plan, Precision, format_size, make_plan, plan_from_json
from glmcore.plan.devices import is_cpu
from glmcore.reading import JSON_LIMIT, read_bytes

# transformers' words for a device map that it makes itself.
WORDS = {"auto": "greedy", "sequential": "greedy", "balanced": "equal"}

Free = Callable[[str], "int | None"]

log = logging.getLogger("glmcore")


def plan_for(
    plan: Plan | Mapping[str, Any] | str | Path | None, config: ModelConfig, dtype: str | torch.dtype | None = None,
    cache: str | None = None,
) -> Plan:  # fmt: skip
    """The plan to load by: a plan itself; one saved in a file; a device map by module names; "auto", "balanced",
    "sequential"; or, where None is given, the CPU alone.

    dtype: of what is not quantised. cache: of keys and values on the CPU. Errors: GlmError("plan-invalid",
    "memory-short", "device-missing"), and "usage" for a type that the plan is not for.
    """
    named = dtype_name(dtype)
    if plan is None:
        return fitting(plan_on_cpu(config, named, free=free_memory("cpu"), cache=cache))
    if isinstance(plan, Mapping):
        return plan_from_map(plan, config, named, cache=cache)
    if plan in WORDS:
        return fitting(make_plan(config, present_devices(), strategy=WORDS[str(plan)], **usual(config, named, cache)))
    found = plan if isinstance(plan, Plan) else read_plan(plan, config)
    if named not in (None, found.dtype):
        raise GlmError("usage", f"the plan is for {found.dtype}, not {named}", hint="make a new one: glmcore plan")
    if cache and found.cache not in (None, cache):
        hint = f"make a new one: glmcore plan --cache {cache}"
        raise GlmError("usage", f"the plan keeps keys and values in {found.cache}, not {cache}", hint=hint)
    bits = config.quantization_bit
    if bits and found.quantize != f"int{bits}":
        raise GlmError("usage", f"the plan is not for int{bits} weights", hint=f"glmcore plan --quant int{bits}")
    return found


def read_plan(plan: str | Path, config: ModelConfig) -> Plan:
    """The plan that is saved in a file. Errors: GlmError("plan-invalid")."""
    try:
        text = read_bytes(plan, JSON_LIMIT)
    except OSError as error:
        raise GlmError("plan-invalid", f"the plan cannot be read: {error.strerror}", where=str(plan)) from error
    return plan_from_json(text, config, str(plan))


def plan_from_map(
    device_map: Mapping[str, Any], config: ModelConfig, dtype: str | None = None, free: Free = free_memory,
    cache: str | None = None,
) -> Plan:  # fmt: skip
    """The plan of a ``device_map`` or ``hf_device_map``, its devices' free memory as budgets."""
    placement = placement_from_map(config, device_map)
    devices = [Device(name, budget(name, free)) for name in dict.fromkeys(placement.values())]
    return fitting(make_plan(config, devices, strategy="manual", placement=placement, **usual(config, dtype, cache)))


def plan_on_gpus(config: ModelConfig, count: int, free: Free = free_memory) -> Plan:
    """The plan that shares the model evenly among the first ``count`` cards.

    Errors: GlmError("usage") for no card, and "device-missing" and "memory-short" for those that are not there or full.
    """
    if count < 1:
        raise GlmError("usage", f"{count} cards hold nothing")
    devices = [Device(f"cuda:{number}", budget(f"cuda:{number}", free)) for number in range(count)]
    return fitting(make_plan(config, devices, strategy="equal", **usual(config)))


def budget(name: str, free: Free) -> int:
    """The bytes that are free on a device. Errors: GlmError("device-missing") for one that this machine has not."""
    found = free(name)
    if found is None:
        raise GlmError("device-missing", f"{name} is not on this machine", hint="see glmdoctor check")
    return found


def usual(config: ModelConfig, dtype: str | None = None, cache: str | None = None) -> dict[str, Any]:
    """The precision of the checkpoint itself, where no other is asked for, and a usual context."""
    precision = Precision.of(config, dtype or config.dtype, cache=cache)
    return {"precision": precision, "context": min(USUAL_CONTEXT, config.max_length)}


def fitting(plan: Plan) -> Plan:
    """The plan itself. Errors: GlmError("memory-short") where it does not fit."""
    if not plan.fits:
        missing = format_size(plan.missing_bytes)
        what = f"{plan.model} does not fit, {missing} are missing: {plan.reasons[0]}"
        raise GlmError("memory-short", what, hint=f"would fit: {', '.join(plan.would_fit)}")
    return plan


def load_planned(
    checkpoint: Checkpoint, plan: Plan, config: ModelConfig, *, free: Free = free_memory, **settings: Any
) -> nn.Module:
    """The model placed by ``plan``; made anew once where a device has less memory than the plan asks for.

    settings: those of ``load_model``. Errors: GlmError("memory-short") where that does not help either.
    """
    if short := devices_short(plan, free):
        return load_model(checkpoint, plan=replanned(plan, config, short, free), **settings)
    try:
        return load_model(checkpoint, plan=plan, **settings)
    except GlmError as error:
        if error.code != "memory-short":
            raise
        again = replanned(plan, config, [str(error)], free)
    return load_model(checkpoint, plan=again, **settings)


def devices_short(plan: Plan, free: Free) -> list[str]:
    """What each device lacks, one sentence for each; the logical devices of the CPU share its memory."""
    wanted: dict[str, int] = {}
    for share in plan.devices:
        wanted[memory_of(share.name)] = wanted.get(memory_of(share.name), 0) + share.total_bytes
    found = {name: free(name) for name, size in wanted.items() if size}
    return [
        f"{name} has {format_size(size)} free, the plan asks for {format_size(wanted[name])}"
        for name, size in found.items()
        if size is not None and size < wanted[name]
    ]


def memory_of(name: str) -> str:
    return "cpu" if is_cpu(name) else name


def replanned(plan: Plan, config: ModelConfig, why: list[str], free: Free) -> Plan:
    """A plan by the same strategy within the memory that is free now. Errors: GlmError("memory-short")."""
    reason = "; ".join(why)
    if plan.strategy == "manual":
        raise GlmError("memory-short", reason, hint="the placement was given by hand: give another, see glmcore plan")
    shared = sum(memory_of(share.name) == "cpu" for share in plan.devices)
    devices = []
    for share in plan.devices:
        left = free(share.name)
        part = shared if memory_of(share.name) == "cpu" else 1
        size = share.budget_bytes if left is None else min(share.budget_bytes, left // part)
        devices.append(Device(share.name, max(size, 1), share.bandwidth))
    bits = int((plan.quantize or "int0").removeprefix("int"))
    made = make_plan(
        config, devices, strategy=plan.strategy, context=plan.context, batch=plan.batch,
        precision=Precision.of(config, plan.dtype, bits, plan.cache),
    )  # fmt: skip
    if not made.fits:
        hint = f"would fit: {', '.join(made.would_fit)}"
        raise GlmError("memory-short", f"{reason}; a new plan does not fit either", hint=hint)
    log.warning("%s: planned anew", reason)
    return replace(made, reasons=(*made.reasons, reason))
