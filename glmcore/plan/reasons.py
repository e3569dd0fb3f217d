"""Why a plan is as it is, in sentences; where it does not fit, by how much, and what would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glmcore.plan.costs import CUDA_CONTEXT_BYTES
from glmcore.plan.devices import Device, format_size
from glmcore.plan.record import DevicePlan, Plan
from glmcore.plan.shares import Load, given_shares, shares_of


def misfit(load: Load, devices: Sequence[Device], strategy: str, longest: int) -> dict[str, Any]:
    """By how much it does not fit, and what would."""
    suggestions = [f"--context {longest}"] if longest else []
    for bits in (8, 4):
        tables = load.config.quantised(bits).embedding_bits
        smaller = replace(load, precision=replace(load.precision, bits=bits, embedding_bits=tables))
        if (not load.precision.bits or bits < load.precision.bits) and shares_of(smaller, devices, strategy):
            suggestions.append(f"--quant int{bits}")
    if load.given is not None:
        return overfull(given_shares(load, devices), suggestions)
    budget = sum(device.budget for device in devices)
    smallest = min(sum(map(load.size, load.chain(device))) for device in devices)
    needed = smallest + sum(map(load.workspace, devices))
    missing = max(needed - budget, 1)
    suggestions.append(more_memory(load, devices, strategy))
    reason = f"{format_size(needed)} are needed, {format_size(budget)} are given on {len(devices)} device(s)"
    return {"missing_bytes": missing, "would_fit": tuple(suggestions), "reasons": (reason,)}


def overfull(shares: Sequence[DevicePlan], suggestions: list[str]) -> dict[str, Any]:
    """The same for a placement by hand: which devices it asks too much of."""
    full = [share for share in shares if share.total_bytes > share.budget_bytes]
    reasons = [f"{s.name}: {format_size(s.total_bytes)} of {format_size(s.budget_bytes)} are needed" for s in full]
    step = 2**20
    return {
        "missing_bytes": sum(share.total_bytes - share.budget_bytes for share in full),
        "would_fit": (*suggestions, *(f"--device {s.name}={-(-s.total_bytes // step)}MiB" for s in full)),
        "reasons": ("; ".join(reasons),),
    }


def more_memory(load: Load, devices: Sequence[Device], strategy: str) -> str:
    """The CPU budget with which the plan fits, to the next 256 MiB."""
    step = 256 * 2**20
    own = next((device for device in devices if device.name == "cpu"), Device("cpu", step))
    others = [device for device in devices if device.name != "cpu"]
    needed = load.share(own, load.chain(own)).total_bytes
    low, high = own.budget // step, needed // step + 1
    while low < high:
        middle = (low + high) // 2
        if shares_of(load, [*others, replace(own, budget=middle * step)], strategy) is not None:
            high = middle
        else:
            low = middle + 1
    return f"--device cpu={low * step // 2**20}MiB"


def explain(plan: Plan, load: Load, devices: Sequence[Device]) -> list[str]:
    """One sentence for each device, and one for what decided."""
    rules = {
        "greedy": "each device is filled up to its budget before the next one is touched",
        "equal": "the largest share is as small as it can be",
        "loose": "shares follow the budgets, so that every device keeps the same relative head-room",
        "manual": "the placement was given",
    }
    sentences = [f"{plan.strategy}: {rules[plan.strategy]}"]
    left = [piece.name for piece in load.chain(devices[0])]
    for share, device in zip(plan.devices, devices, strict=True):
        if not share.pieces:
            sentences.append(f"{share.name}: not needed")
            continue
        free = share.budget_bytes - share.total_bytes
        context = (
            f", of the workspace {format_size(CUDA_CONTEXT_BYTES)} for the CUDA context"
            if share.name.startswith("cuda")
            else ""
        )
        sentences.append(
            f"{share.name}: {describe_pieces(share)} take {format_size(share.weights_bytes)} of weights, "
            f"{format_size(share.kv_cache_bytes)} of cache for {plan.context} tokens and "
            f"{format_size(share.workspace_bytes)} of workspace{context}; {format_size(free)} stay free"
        )
        left = [piece for piece in left if piece not in share.pieces]
        if plan.strategy == "greedy" and left:
            size = next(load.size(piece) for piece in load.chain(device) if piece.name == left[0])
            sentences.append(f"{left[0]} needs {format_size(size)} and goes on to the next device")
    if plan.strategy == "loose":
        least = min(1 - share.total_bytes / share.budget_bytes for share in plan.devices if share.pieces)
        sentences.append(f"head-room: {least:.0%} of every used device's budget stay free at least")
    if load.config.tie_embeddings:
        sentences.append("lm_head is the embedding's own matrix: it is counted once and sits on the same device")
    return sentences


def describe_pieces(share: DevicePlan) -> str:
    """ "embedding, layers 0-13" in place of fifteen names."""
    parts = [piece for piece in share.pieces if not piece.startswith("layer.")]
    if share.layers:
        parts.insert(1 if parts and parts[0] == "embedding" else 0, f"layers {spans(share.layers)}")
    return ", ".join(parts)


def spans(layers: Sequence[int]) -> str:
    """ "0-3, 8-11" of the numbers in order."""
    starts = [layer for layer in layers if layer - 1 not in layers]
    ends = [layer for layer in layers if layer + 1 not in layers]
    return ", ".join(f"{first}-{last}" for first, last in zip(starts, ends, strict=True))
