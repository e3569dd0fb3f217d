"""The plan: which device holds which piece, what that costs by kind, and what would fit where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.layout import piece_names
from glmcore.plan.costs import CUDA_CONTEXT_BYTES, Piece, Precision, pieces
from glmcore.plan.devices import Device, format_size, is_cpu
from glmcore.plan.strategies import NUMBERED, STRATEGIES, cut
from glmcore.plan.types import Types
from glmcore.plan.workspace import workspace_bytes

SCHEMA_VERSION = 1
PREFILL_CHUNK = 512  # tokens of a prompt that go through the model at once (ChatGLM-6B: all)


@dataclass(frozen=True)
class DevicePlan:
    """One device's share; sizes are bytes, the CUDA context is counted in the workspace."""

    name: str
    budget_bytes: int
    weights_bytes: int
    kv_cache_bytes: int
    workspace_bytes: int
    pieces: tuple[str, ...]
    stored: str  # the type of matrices that are not quantised
    computing: str  # the type of hidden states and vectors
    cache: str  # the type of keys and values
    bandwidth: float | None = None  # bytes/s, where known

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.workspace_bytes

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(int(piece.partition(".")[2]) for piece in self.pieces if piece.startswith("layer."))

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "pieces": list(self.pieces),
            "layers": list(self.layers),
            "total_bytes": self.total_bytes,
        }


@dataclass(frozen=True)
class Plan:
    """A placement as data: printed, saved, passed back, and carried out as it stands."""

    model: str
    generation: str
    quantize: str | None  # "int4", "int8"
    dtype: str
    context: int
    batch: int
    strategy: str
    fits: bool
    hops: int
    max_context: int
    devices: tuple[DevicePlan, ...]
    reasons: tuple[str, ...]
    tokens_per_s: float | None = None  # expected decode speed, where every used device's bandwidth is known
    missing_bytes: int = 0
    would_fit: tuple[str, ...] = ()

    @property
    def types(self) -> dict[str, Types]:
        """Piece → the types in which it is kept and computes."""
        return {
            piece: Types(device.stored, device.computing, device.cache)
            for device in self.devices
            for piece in device.pieces
        }

    @property
    def cache(self) -> str | None:
        """The type of keys and values on the CPU; None where that holds nothing."""
        return next((device.cache for device in self.devices if device.pieces and is_cpu(device.name)), None)

    @property
    def placement(self) -> dict[str, str]:
        """Piece → device name."""
        return {piece: device.name for device in self.devices for piece in device.pieces}

    def to_json(self) -> dict[str, Any]:
        data = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        data["devices"] = [device.to_json() for device in self.devices]
        if self.fits:
            del data["missing_bytes"], data["would_fit"]
        return data


@dataclass(frozen=True)
class Load:
    """What the model is asked to do: it decides the cache and the workspace."""

    config: ModelConfig
    precision: Precision
    context: int
    batch: int
    given: Mapping[str, str] | None = None  # piece → device, where it is placed by hand

    def chain(self, device: Device) -> tuple[Piece, ...]:
        """The pieces to be cut, as they would lie on ``device``; a tied head follows the embedding and is left out."""
        found = pieces(self.config, self.precision, device.name)
        return found[:-1] if self.config.tie_embeddings else found

    def size(self, piece: Piece) -> int:
        """Weights and cache of a piece."""
        return piece.weights + piece.cache_per_token * self.context * self.batch

    def workspace(self, device: Device) -> int:
        """What the passes take on a device that holds anything, the CUDA context included."""
        # A prompt that sees itself in both directions cannot go through in parts.
        prompt = min(PREFILL_CHUNK, self.context) if self.config.traits.causal else self.context
        taken = workspace_bytes(self.config, self.precision, prompt, self.context, self.batch, device)
        return taken + device.is_cuda * CUDA_CONTEXT_BYTES

    def share(self, device: Device, held: Sequence[Piece]) -> DevicePlan:
        weights, types = sum(piece.weights for piece in held), self.precision.on(device.name)
        return DevicePlan(
            device.name,
            device.budget,
            weights,
            sum(map(self.size, held)) - weights,
            self.workspace(device) if held else 0,
            tuple(piece.name for piece in held),
            types.stored,
            types.computing,
            types.cache,
            device.bandwidth,
        )


def shares_of(load: Load, devices: Sequence[Device], strategy: str) -> tuple[DevicePlan, ...] | None:
    """Each device's share under the strategy, or None where the model does not fit."""
    if load.given is not None:
        held = given_shares(load, devices)
        return held if all(share.total_bytes <= share.budget_bytes for share in held) else None
    chains = [load.chain(device) for device in devices]
    before = [[0, *accumulate(map(load.size, chain))] for chain in chains]
    fixed = [load.workspace(device) for device in devices]

    def cost(first: int, last: int, number: int) -> int:
        return before[number][last] - before[number][first] + fixed[number] if last > first else 0

    cuts = cut(strategy, len(chains[0]), devices, cost)
    if cuts is None:
        return None
    shares = [load.share(device, chains[n][cuts[n] : cuts[n + 1]]) for n, device in enumerate(devices)]
    return with_tied_head(load, shares)


def given_shares(load: Load, devices: Sequence[Device]) -> tuple[DevicePlan, ...]:
    """Each device's share of a placement by hand, whether it fits or not."""
    assert load.given is not None
    given = load.given
    shares = [
        load.share(device, [piece for piece in load.chain(device) if given[piece.name] == device.name])
        for device in devices
    ]
    return with_tied_head(load, shares)


def with_tied_head(load: Load, shares: Sequence[DevicePlan]) -> tuple[DevicePlan, ...]:
    """A tied head is the embedding's own matrix: it sits where that sits and is counted once."""
    if not load.config.tie_embeddings:
        return tuple(shares)
    return tuple(
        replace(share, pieces=(*share.pieces, "lm_head")) if "embedding" in share.pieces else share for share in shares
    )


def longest_context(load: Load, devices: Sequence[Device], strategy: str) -> int:
    """The longest context, up to the model's own, for which a plan exists; 0 where none does."""
    low, high = 0, load.config.max_length
    while low < high:
        middle = (low + high + 1) // 2
        if shares_of(replace(load, context=middle), devices, strategy) is not None:
            low = middle
        else:
            high = middle - 1
    return low


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
