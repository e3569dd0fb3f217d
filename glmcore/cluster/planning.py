"""What runs where: a replica on each node that holds the model. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from glmcore.cluster.nodes import Node
from glmcore.config import ModelConfig
from glmcore.plan import Device, Plan, Precision, make_plan


@dataclass(frozen=True)
class Wish:
    """What was asked for. ``most``: replicas at most, as many as there are nodes where None;
    ``threads``: of each at most, the node's own where None."""

    config: ModelConfig
    precision: Precision
    context: int
    most: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Share:
    """What one process holds: its node, its devices' plan, and its threads."""

    node: Node
    plan: Plan
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
    """What to start on ``nodes``, which are fit and free, beside ``running`` replicas."""
    wanted = len(nodes) if wish.most is None else wish.most - running
    whole = [share for node in nodes if (share := share_of(wish, node, neighbours(node, nodes))).plan.fits]
    return [Spec((share,)) for share in whole[: max(0, wanted)]]


def neighbours(node: Node, nodes: Sequence[Node]) -> int:
    """How many of ``nodes`` are on its machine, and share what is free there."""
    return sum(other.facts["boot"] == node.facts["boot"] for other in nodes)


def share_of(wish: Wish, node: Node, sharing: int) -> Share:
    """The whole model on one node, which may not fit; its cards are the first of ``sharing``'s that see them."""
    devices: list[Device] = [replace(device, budget=device.budget // sharing) for device in node.devices]
    made = make_plan(wish.config, devices, precision=wish.precision, context=wish.context)
    return Share(node, made, min(node.threads, wish.threads or node.threads))


def described(share: Share) -> dict[str, Any]:
    layers = [layer for device in share.plan.devices for layer in device.layers]
    return {
        "node": share.node.name, "threads": share.threads, "layers": layers,
        "devices": [device.to_json() for device in share.plan.devices if device.pieces],
    }  # fmt: skip
