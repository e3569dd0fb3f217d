"""Makes a plan: which device holds which piece, what that costs, and what would fit where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import piece_names
from glmcore.plan.costs import Precision
from glmcore.plan.devices import Device
from glmcore.plan.reasons import explain, misfit
from glmcore.plan.record import DevicePlan, Plan
from glmcore.plan.shares import Load, longest_context, shares_of
from glmcore.plan.strategies import NUMBERED, STRATEGIES


def count_hops(config: ModelConfig, placement: Mapping[str, str]) -> int:
    """How often the hidden state changes device on its way through the model."""
    path = [placement[piece] for piece in piece_names(config)]
    return sum(before != after for before, after in pairwise(path))


def decode_speed(load: Load, shares: Sequence[DevicePlan], devices: Sequence[Device]) -> float | None:
    """Tokens/s at the bandwidth's limit: each token reads the whole cache and every weight but the embedding's.

    (Of an embedding one row is read for each token, unless it is the head too.)
    """
    seconds = 0.0
    for share, device in zip(shares, devices, strict=True):
        if share.pieces and not device.bandwidth:
            return None
        unread = load.chain(device)[0].weights if "embedding" in share.pieces and not load.config.tie_embeddings else 0
        seconds += (share.weights_bytes - unread + share.kv_cache_bytes) / (device.bandwidth or 1)
    return 1 / seconds if seconds else None


def make_plan(
    config: ModelConfig,
    devices: Sequence[Device],
    *,
    strategy: str = "greedy",
    precision: Precision,
    context: int = 2048,
    batch: int = 1,
    placement: Mapping[str, str] | None = None,
) -> Plan:
    """Place ``config`` on ``devices`` in their given order; ``placement`` is what "manual" asks for.

    Errors: GlmError("usage") for a senseless request.
    """
    strategy = NUMBERED.get(strategy, strategy)
    check_request(config, devices, strategy, context, batch)
    check_given(devices, strategy, placement)
    load = Load(config, precision, context, batch, placement)
    shares = shares_of(load, devices, strategy)
    longest = longest_context(load, devices, strategy)
    plan = Plan(
        model=config.name,
        generation=config.generation,
        quantize=f"int{precision.bits}" if precision.bits else None,
        dtype=precision.dtype,
        context=context,
        batch=batch,
        strategy=strategy,
        fits=shares is not None,
        hops=0,
        max_context=longest,
        devices=shares or tuple(load.share(device, ()) for device in devices),
        reasons=(),
    )
    if shares is None:
        return replace(plan, **misfit(load, devices, strategy, longest))
    plan = replace(plan, hops=count_hops(config, plan.placement), tokens_per_s=decode_speed(load, shares, devices))
    return replace(plan, reasons=tuple(explain(plan, load, devices)))


def check_request(config: ModelConfig, devices: Sequence[Device], strategy: str, context: int, batch: int) -> None:
    """Errors: GlmError("usage") for what no plan can be made for."""
    if strategy not in STRATEGIES:
        raise GlmError("usage", f"{strategy!r} is no strategy", hint=f"one of {', '.join(STRATEGIES)}")
    names = [device.name for device in devices]
    if not names:
        raise GlmError("usage", "no device is given", hint="for example --device cpu=16GiB")
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise GlmError("usage", f"{', '.join(sorted(doubled))} is given twice")
    if not 1 <= context <= config.max_length:
        raise GlmError("usage", f"a context of {context} tokens is outside the model's 1 to {config.max_length}")
    if batch < 1:
        raise GlmError("usage", f"a batch of {batch} makes no sense")


def check_given(devices: Sequence[Device], strategy: str, placement: Mapping[str, str] | None) -> None:
    """The placement by hand and the strategy go together, and every device that it names has a budget.

    Errors: GlmError("usage", "device-missing").
    """
    if (strategy == "manual") != (placement is not None):
        raise GlmError("usage", "the strategy manual and ranges of layers go together", hint="--layers cuda:0=1-14 …")
    absent = sorted(set((placement or {}).values()) - {device.name for device in devices})
    if absent:
        hint = f"--device {absent[0]}=8GiB"
        raise GlmError("device-missing", f"{', '.join(absent)} is asked for and has no budget", hint=hint)
