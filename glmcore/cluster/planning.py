"""What runs where: a replica on each node that holds the model, or over several where none does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from glmcore.cluster.nodes import Node
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.plan import Device, Plan, Precision, stage_plan


@dataclass(frozen=True)
class Wish:
    """What was asked for. most: replicas at most; as many as can be where None. threads: of each process at most, the
    node's own where None. stages: of each replica; as few as hold the model where None.
    """

    config: ModelConfig
    precision: Precision
    context: int
    most: int | None = None
    threads: int | None = None
    stages: int | None = None


@dataclass(frozen=True)
class Share:
    """What one process holds: layers from the first to before the last, its node's devices, and its threads."""

    node: Node
    plan: Plan
    layers: tuple[int, int]
    threads: int


@dataclass(frozen=True)
class Spec:
    """One replica: the processes that make it, the first of which speaks for it."""

    shares: tuple[Share, ...]

    @property
    def name(self) -> str:
        return "+".join(share.node.name for share in self.shares)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(share.node.id for share in self.shares)


def specs(wish: Wish, nodes: Sequence[Node], running: int) -> list[Spec]:
    """What to start on ``nodes``, which are fit and free, beside ``running`` replicas: each on as few as can be."""
    left, made = list(nodes), list[Spec]()
    while left and (wish.most is None or running + len(made) < wish.most):
        spec = next(filter(None, (replica(wish, left, count) for count in counts(wish, left))), None)
        if spec is None:
            break
        made.append(spec)
        left = [node for node in left if node.id not in spec.nodes]
    return made


def counts(wish: Wish, nodes: Sequence[Node]) -> range:
    """How many stages a replica may have."""
    most = min(len(nodes), wish.config.num_layers)
    return range(1, most + 1) if wish.stages is None else range(wish.stages, min(wish.stages, most) + 1)


def replica(wish: Wish, nodes: Sequence[Node], count: int) -> Spec | None:
    """One of ``count`` stages on the nodes that have most memory for it, in their order; None where it does not fit."""
    devices = {node.id: devices_of(node, nodes) for node in nodes}
    room = {id: sum(device.budget for device in each) for id, each in devices.items()}
    chosen = sorted(nodes, key=lambda node: -room[node.id])[:count]
    chosen = [node for node in nodes if node in chosen]
    spans = pairwise(edges(wish.config.num_layers, [room[node.id] for node in chosen]))
    try:
        return Spec(tuple(
            Share(node, plan_of(wish, devices[node.id], span), span, min(node.threads, wish.threads or node.threads))
            for node, span in zip(chosen, spans, strict=True)
        ))  # fmt: skip
    except GlmError:
        return None


def plan_of(wish: Wish, devices: Sequence[Device], span: tuple[int, int]) -> Plan:
    """Errors: GlmError("memory-short")."""
    return stage_plan(wish.config, devices, *span, precision=wish.precision, context=wish.context)


def edges(layers: int, rooms: Sequence[int]) -> list[int]:
    """Where a model is cut so that each part, of one layer at least, has layers as its machine has room."""
    found, total, before = [0], sum(rooms), 0
    for number, room in enumerate(rooms[:-1], 1):
        before += room
        wanted = round(layers * before / max(total, 1))
        found.append(min(max(wanted, found[-1] + 1), layers - (len(rooms) - number)))
    return [*found, layers]


def devices_of(node: Node, nodes: Sequence[Node]) -> list[Device]:
    """Its devices with their part of what is free: nodes on one machine share that."""
    sharing = sum(other.facts["boot"] == node.facts["boot"] for other in nodes)
    return [replace(device, budget=device.budget // sharing) for device in node.devices]


def described(share: Share) -> dict[str, Any]:
    return {
        "node": share.node.name, "threads": share.threads, "layers": list(range(*share.layers)),
        "devices": [device.to_json() for device in share.plan.devices if device.pieces],
    }  # fmt: skip
