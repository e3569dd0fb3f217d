"""From nodes that were examined to processes that are to be started: what the planner says, as Ray needs it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from glmcore.cluster.nodes import Node
from glmcore.config import ModelConfig
from glmcore.plan import Device, Plan, Precision
from glmcore.plan import cluster as planner
from glmcore.plan.cluster import ClusterPlan, plan_cluster


@dataclass(frozen=True)
class Wish:
    """What was asked for. most: replicas at most; as many as pay where None. threads: of each process at most, the
    node's own where None. stages: of each replica; as many as pay where None.
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
    """One replica: the processes that make it in the order of their layers. The last of them leads."""

    shares: tuple[Share, ...]

    @property
    def name(self) -> str:
        return "+".join(share.node.name for share in self.shares)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(share.node.id for share in self.shares)


def plan_of(wish: Wish, nodes: Sequence[Node], running: int = 0) -> ClusterPlan | None:
    """The plan for ``nodes``, beside so many replicas that run already; None where no more are wanted.

    Errors: GlmError("usage").
    """
    left = None if wish.most is None else wish.most - running
    if left is not None and left < 1:
        return None
    return plan_cluster(
        wish.config, [as_planned(node, nodes) for node in nodes], precision=wish.precision, context=wish.context,
        replicas=left, stages=wish.stages,
    )  # fmt: skip


def as_planned(node: Node, nodes: Sequence[Node]) -> planner.Node:
    """As the planner sees it. Nodes on one machine have their part each of what is free there."""
    boot = node.facts.get("boot")
    sharing = sum(other.facts.get("boot") == boot for other in nodes)
    devices: list[Device] = [replace(device, budget=device.budget // sharing) for device in node.devices]
    return planner.Node(node.name, tuple(devices), node.link, node.verdict.against)


def specs_of(wish: Wish, plan: ClusterPlan | None, nodes: Sequence[Node]) -> list[Spec]:
    """What is to be started by a plan."""
    named = {node.name: node for node in nodes}
    return [] if plan is None else [
        Spec(tuple(
            Share(node := named[stage.node], plan.plan_of(stage), (stage.first, stage.last), threads(wish, node))
            for stage in replica.stages
        ))
        for replica in plan.replicas
    ]  # fmt: skip


def threads(wish: Wish, node: Node) -> int:
    return min(node.threads, wish.threads or node.threads)


def described(share: Share) -> dict[str, Any]:
    return {
        "node": share.node.name, "threads": share.threads, "layers": list(range(*share.layers)),
        "devices": [device.to_json() for device in share.plan.devices if device.pieces],
    }  # fmt: skip
