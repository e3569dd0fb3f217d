"""What a plan says: which device holds which piece, in which types, and what that costs by kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from glmcore.plan.devices import is_cpu
from glmcore.plan.types import Types

SCHEMA_VERSION = 1


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


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What every plan says, of one machine or of several: what was to be placed, whether it fits, and why so."""

    model: str
    generation: str
    quantize: str | None  # "int4", "int8"
    dtype: str
    context: int
    batch: int
    fits: bool
    reasons: tuple[str, ...]
    missing_bytes: int = 0
    would_fit: tuple[str, ...] = ()

    def in_json(self, schema_version: int) -> dict[str, Any]:
        """Its fields; what is missing only where it does not fit."""
        data = {"schema_version": schema_version, **asdict(self)}
        if self.fits:
            del data["missing_bytes"], data["would_fit"]
        return data


@dataclass(frozen=True, kw_only=True)
class Plan(Verdict):
    """A placement as data: printed, saved, passed back, and carried out as it stands."""

    strategy: str
    hops: int
    max_context: int
    devices: tuple[DevicePlan, ...]
    tokens_per_s: float | None = None  # expected decode speed, where every used device's bandwidth is known

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
        return {**self.in_json(SCHEMA_VERSION), "devices": [device.to_json() for device in self.devices]}
