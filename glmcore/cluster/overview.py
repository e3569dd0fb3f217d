"""A cluster's plan for people and for programs."""

from __future__ import annotations

from typing import Any

from glmcore.cluster.nodes import Node
from glmcore.cluster.planning import Spec, described
from glmcore.cluster.serving import Planned
from glmcore.plan import format_size

SCHEMA_VERSION = 1


def as_json(made: Planned) -> dict[str, Any]:
    wish = made.wish
    return {
        "schema_version": SCHEMA_VERSION,
        "model": wish.config.name,
        "generation": wish.config.generation,
        "quantize": f"int{wish.precision.bits}" if wish.precision.bits else None,
        "dtype": wish.precision.dtype,
        "context": wish.context,
        "nodes": [node.to_json() for node in made.nodes],
        "replicas": [{"name": spec.name, "stages": [described(share) for share in spec.shares]} for spec in made.specs],
    }


def table(made: Planned) -> str:
    """A line for each node, what it gets, and for those that get nothing why and what to do there."""
    wish = made.wish
    kind = f"int{wish.precision.bits}" if wish.precision.bits else wish.precision.dtype
    replicas = f"{len(made.specs)} replica{'s' * (len(made.specs) != 1)}"
    head = f"{wish.config.name} ({wish.config.generation}), {kind}, context {wish.context}: {replicas}"
    return "\n".join([head, "", *(line for node in made.nodes for line in lines(node, made.specs))])


def lines(node: Node, specs: tuple[Spec, ...]) -> list[str]:
    told = [f"{node.name:8} {node.state:11} {node.address:15} {holds(node, specs)}", f"{'':8} {has(node)}"]
    if node.verdict.against:
        told.append(f"{'':8} {node.verdict.against}")
        told.append(f"{'':8} there: {node.verdict.fix}")
    return [line.rstrip() for line in told]


def has(node: Node) -> str:
    devices = ", ".join(
        f"{device.name} {format_size(device.budget)}"
        + (f" at {device.bandwidth / 1e9:.1f} GB/s" if device.bandwidth else "")
        for device in node.devices
    )
    return f"{node.threads} threads, {devices}" if devices else ""


def holds(node: Node, specs: tuple[Spec, ...]) -> str:
    for number, spec in enumerate(specs, 1):
        for share in spec.shares:
            if share.node.id == node.id:
                layers = described(share)["layers"]
                return f"replica {number}: layers {layers[0] + 1}-{layers[-1] + 1}, {share.threads} threads"
    return "nothing" if node.verdict.against else "nothing: the model does not fit"
