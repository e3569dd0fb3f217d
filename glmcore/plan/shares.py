"""How much of a model each device gets under a strategy, where it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from glmcore.config import ModelConfig
from glmcore.layout import pieces_of_part
from glmcore.plan.costs import CUDA_CONTEXT_BYTES, Piece, Precision, pieces
from glmcore.plan.devices import Device
from glmcore.plan.record import DevicePlan
from glmcore.plan.strategies import cut
from glmcore.plan.workspace import workspace_bytes

PREFILL_CHUNK = 512  # tokens of a prompt that go through the model at once (ChatGLM-6B: all)


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
    return chain_shares(load, devices, strategy, 0, load.config.num_layers)


def chain_shares(
    load: Load, devices: Sequence[Device], strategy: str, first: int, last: int
) -> tuple[DevicePlan, ...] | None:
    """The same of the layers ``first`` to before ``last`` and the ends of the model beside them."""
    held = pieces_of_part(load.config, first, last)
    chains = [tuple(piece for piece in load.chain(device) if piece.name in held) for device in devices]
    before = [[0, *accumulate(map(load.size, chain))] for chain in chains]
    fixed = [load.workspace(device) for device in devices]

    def cost(first: int, last: int, number: int) -> int:
        return before[number][last] - before[number][first] + fixed[number] if last > first else 0

    cuts = cut(strategy, len(chains[0]), devices, cost)
    if cuts is None:
        return None
    shares = [load.share(device, chains[n][cuts[n] : cuts[n + 1]]) for n, device in enumerate(devices)]
    return with_tied_head(load, shares) if "lm_head" in held else tuple(shares)


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
