"""What a cluster's plan says: the replicas, the stages of each, and what each stage puts on which device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from glmcore.plan.record import DevicePlan, Plan, Verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stage:
    """Layers ``first`` to before ``last`` on one machine, and what of them and of the model's ends lies where."""

    node: str
    first: int
    last: int
    devices: tuple[DevicePlan, ...]

    @property
    def total_bytes(self) -> int:
        return sum(device.total_bytes for device in self.devices)


@dataclass(frozen=True)
class Replica:
    """A whole model, its stages in their order. seconds: of a token, as reading and hops allow; ``hop_seconds`` of
    them are on the way between machines. None where not every bandwidth is known."""

    stages: tuple[Stage, ...]
    hop_seconds: float
    seconds: float | None

    @property
    def leader(self) -> str:
        """The machine that is to lead: beside the last stage, whose logits need not travel then."""
        return self.stages[-1].node


@dataclass(frozen=True, kw_only=True)
class ClusterPlan(Verdict):
    """Which machine gets what. ``idle`` machines could get something, and ``refused`` ones, with why, must not."""

    replicas: tuple[Replica, ...]
    idle: tuple[str, ...]
    refused: dict[str, str]

    @property
    def tokens_per_s(self) -> float | None:
        """Of one answer in each replica, together; None where not every bandwidth is known."""
        seconds = [replica.seconds for replica in self.replicas]
        known = [each for each in seconds if each is not None]
        return sum(1 / each for each in known) if known and len(known) == len(seconds) else None

    def plan_of(self, stage: Stage) -> Plan:
        """The stage's own plan, as ``load_stage`` takes it."""
        return Plan(
            model=self.model, generation=self.generation, quantize=self.quantize, dtype=self.dtype,
            context=self.context, batch=self.batch, strategy="greedy", fits=True, hops=len(stage.devices) - 1,
            max_context=self.context, devices=stage.devices, reasons=(),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        replicas = [
            {
                "stages": [
                    {**asdict(stage), "total_bytes": stage.total_bytes, "devices": [d.to_json() for d in stage.devices]}
                    for stage in replica.stages
                ],
                "leader": replica.leader, "hop_seconds": replica.hop_seconds, "seconds": replica.seconds,
            }
            for replica in self.replicas
        ]  # fmt: skip
        return {**self.in_json(SCHEMA_VERSION), "tokens_per_s": self.tokens_per_s, "replicas": replicas}
