"""A cluster's plan for people."""

from __future__ import annotations

from collections.abc import Iterator

from glmcore.plan.cluster.record import ClusterPlan, Replica, Stage
from glmcore.plan.devices import format_size
from glmcore.plan.reasons import describe_pieces


def describe(plan: ClusterPlan) -> str:
    """A line for each replica and each device that holds something, then who gets nothing and why."""
    return "\n".join(_lines(plan))


def _lines(plan: ClusterPlan) -> Iterator[str]:
    yield f"{plan.model} ({plan.generation}), {plan.quantize or plan.dtype}, context {plan.context}"
    if not plan.fits:
        missing = f"{format_size(plan.missing_bytes)} are missing, " if plan.missing_bytes else ""
        yield f"does not fit: {missing}{plan.reasons[0]}"
        yield from ("would fit:", *(f"  {option}" for option in plan.would_fit))
    for number, replica in enumerate(plan.replicas, 1):
        yield ""
        yield f"replica {number}: {_speed(replica)}"
        for stage in replica.stages:
            yield from _stage(stage)
    if plan.fits:
        yield ""
        yield f"{len(plan.replicas)} replica(s), {_total(plan)}"
    if plan.idle:
        yield f"idle: {', '.join(plan.idle)}"
    for name, why in plan.refused.items():
        yield f"gets nothing: {name}, {why}"
    if plan.fits:
        yield from ("", *plan.reasons)


def _stage(stage: Stage) -> Iterator[str]:
    for device in stage.devices:
        yield (
            f"  {stage.node}/{device.name}: {describe_pieces(device)}; {format_size(device.total_bytes)} of "
            f"{format_size(device.budget_bytes)}"
        )


def _speed(replica: Replica) -> str:
    stages = f"{len(replica.stages)} stages, " if len(replica.stages) > 1 else ""
    if replica.seconds is None:
        return f"{stages}speed unknown (not every bandwidth is measured)"
    hops = f", {replica.hop_seconds * 1e3:.1f} ms of a token on the way" if len(replica.stages) > 1 else ""
    return f"{stages}about {1 / replica.seconds:.1f} tokens/s by bandwidth{hops}"


def _total(plan: ClusterPlan) -> str:
    if plan.tokens_per_s is None:
        return "together of unknown speed"
    return f"together about {plan.tokens_per_s:.1f} tokens/s, one answer in each"
