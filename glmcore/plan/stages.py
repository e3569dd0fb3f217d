"""The plan of one stage: some of a model's layers over the devices of one machine."""

from __future__ import annotations

from collections.abc import Sequence

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import pieces_of_part
from glmcore.plan.costs import Precision
from glmcore.plan.devices import Device, format_size
from glmcore.plan.record import DevicePlan, Plan
from glmcore.plan.shares import Load, chain_shares


def stage_plan(
    config: ModelConfig, devices: Sequence[Device], first: int, last: int, *, precision: Precision, context: int = 2048,
    batch: int = 1,
) -> Plan:  # fmt: skip
    """Layers ``first`` to before ``last`` over ``devices``, in their order, each filled before the next is touched.

    Errors: GlmError("memory-short") where they do not fit.
    """
    load = Load(config, precision, context, batch)
    shares = chain_shares(load, devices, "greedy", first, last)
    if shares is None:
        held = pieces_of_part(config, first, last)
        needed = min(sum(load.size(p) for p in load.chain(d) if p.name in held) + load.workspace(d) for d in devices)
        given = sum(device.budget for device in devices)
        what = f"layers {first}-{last - 1} of {config.name} take {format_size(needed)}, {format_size(given)} are given"
        hint = "give the stage fewer layers, or take --quant int4 or a shorter --context"
        raise GlmError("memory-short", what, hint=hint)
    return plan_of_shares(config, [share for share in shares if share.pieces], precision, context, batch)


def plan_of_shares(
    config: ModelConfig, shares: Sequence[DevicePlan], precision: Precision, context: int, batch: int
) -> Plan:
    """A plan that says no more than what each device of a stage holds."""
    return Plan(
        model=config.name, generation=config.generation, quantize=f"int{precision.bits}" if precision.bits else None,
        dtype=precision.dtype, context=context, batch=batch, strategy="greedy", fits=True, hops=len(shares) - 1,
        max_context=context, devices=tuple(shares), reasons=(),
    )  # fmt: skip
