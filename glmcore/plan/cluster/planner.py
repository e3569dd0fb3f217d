"""Makes the plan of a cluster: replicas where machines hold the model, stages over several where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.plan.cluster.grouping import grouped
from glmcore.plan.cluster.hosts import ALONE, Host, Sizes
from glmcore.plan.cluster.nodes import Node
from glmcore.plan.cluster.pipelines import Way, evened
from glmcore.plan.cluster.record import ClusterPlan, Replica, Stage
from glmcore.plan.costs import Precision
from glmcore.plan.devices import format_size
from glmcore.plan.shares import Load
from glmcore.plan.stages import stage_plan


def plan_cluster(
    config: ModelConfig, nodes: Sequence[Node], *, precision: Precision, context: int = 2048, batch: int = 1,
    replicas: int | None = None, stages: int | None = None,
) -> ClusterPlan:  # fmt: skip
    """The plan that gives most tokens/s, one answer in each replica, its stages evened within 3 % of that.

    replicas: at most so many, as many as pay where None. stages: of each replica, as many as pay where None. Nodes that
    are broken get nothing. Errors: GlmError("usage") for a senseless request.
    """
    check_request(config, nodes, context, batch, replicas, stages)
    load = Load(config, precision, context, batch)
    hosts = hosts_of(load, nodes)
    ways = [evened(way) for way in grouped(hosts, replicas, stages)]
    used = {host.node.name for way in ways for host in way.hosts}
    made = ClusterPlan(
        model=config.name, generation=config.generation, quantize=f"int{precision.bits}" if precision.bits else None,
        dtype=precision.dtype, context=context, batch=batch, fits=bool(ways),
        replicas=tuple(replica_of(load, way) for way in ways),
        idle=tuple(host.node.name for host in hosts if host.node.name not in used),
        refused={node.name: node.broken for node in nodes if node.broken}, reasons=(),
    )  # fmt: skip
    if not ways:
        return replace(made, **misfit(load, nodes, hosts, stages))
    return replace(made, reasons=tuple(explained(made, hosts, replicas, stages)))


def hosts_of(load: Load, nodes: Sequence[Node]) -> list[Host]:
    """The machines that may get something."""
    kinds: dict[str, Sizes] = {}
    return [Host(node, load, kinds) for node in nodes if not node.broken and node.devices]


def replica_of(load: Load, way: Way) -> Replica:
    """Every piece on its device."""
    edges = [sum(way.counts[:number]) for number in range(len(way.counts) + 1)]
    found = []
    for host, (first, last) in zip(way.hosts, pairwise(edges), strict=True):
        asked: dict[str, Any] = {"precision": load.precision, "context": load.context, "batch": load.batch}
        found.append(Stage(
            host.node.name, first, last, stage_plan(load.config, host.devices, first, last, **asked).devices,
        ))  # fmt: skip
    known = all(device.bandwidth for stage in found for device in stage.devices)
    return Replica(tuple(found), way.hops, way.seconds if known else None)


def check_request(
    config: ModelConfig, nodes: Sequence[Node], context: int, batch: int, replicas: int | None, stages: int | None
) -> None:
    """GlmError("usage") for what no plan can be made of."""
    names = [node.name for node in nodes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise GlmError("usage", f"the node {twice} is given twice")
    if not 1 <= context <= config.max_length or batch < 1:
        raise GlmError("usage", f"{config.name} has no context of {context} for {batch}", hint=f"1-{config.max_length}")
    if replicas is not None and replicas < 1:
        raise GlmError("usage", f"{replicas} replicas serve nobody", where="--replicas")
    if stages is not None and not 1 <= stages <= config.num_layers:
        hint = f"auto, or a number up to the {config.num_layers} layers"
        raise GlmError("usage", f"{config.name} cannot be cut into {stages} stages", where="--stages", hint=hint)


def explained(plan: ClusterPlan, hosts: Sequence[Host], replicas: int | None, stages: int | None) -> list[str]:
    """Why it is as it is, of what was asked for."""
    whole = {host.node.name for host in hosts if host.fill(host.layers, ALONE)}
    sentences = [f"{len(whole)} of {len(hosts)} fit nodes hold the model alone"]
    for replica in plan.replicas:
        if len(replica.stages) > 1:
            names = ", ".join(stage.node for stage in replica.stages)
            chosen = any(stage.node in whole for stage in replica.stages)
            why = "read it faster together" if chosen else "need each other"
            why = "are as many as were asked for" if stages else why
            sentences.append(f"{names} {why}; hops between them take {replica.hop_seconds * 1e3:.1f} ms of a token")
    if plan.idle and (replicas is None or len(plan.replicas) < replicas):
        holds = "holds" if len(plan.idle) == 1 else "together hold"
        cut = f" in {stages} stages" if stages else ""
        sentences.append(f"{', '.join(plan.idle)} {holds} no further model{cut} and would make none faster")
    if replicas is not None and len(plan.replicas) < replicas:
        sentences.append(f"{replicas} replicas were asked for, {len(plan.replicas)} can be made")
    return sentences


def misfit(load: Load, nodes: Sequence[Node], hosts: Sequence[Host], stages: int | None) -> dict[str, Any]:
    """By how much the model does not fit, and what would."""
    if not hosts:
        refused = ", ".join(f"{node.name} ({node.broken})" for node in nodes if node.broken) or "there are none"
        hint = ("mend one of the nodes: glmdoctor fix",) if nodes else ("join a node: ray start --address",)
        return {"missing_bytes": 0, "reasons": (f"no node may get anything: {refused}",), "would_fit": hint}
    layers = load.config.num_layers
    held = sum(sorted((host.capacity for host in hosts), reverse=True)[:stages])
    size = max(host.pairs[-1][1].layer for host in hosts)
    ends = max(pair[1].embedding + sum(pair[1].after) for host in hosts for pair in host.pairs)
    missing = max(layers - held, 0) * size + ends
    own = hosts[0].pairs[-1][1].workspace
    reason = f"{len(hosts)} node(s) have room for {min(held, layers)} of {layers} layers beside what passes take"
    if stages is not None:
        reason += f", and {stages} stage(s) were asked for"
    would = [*(["--stages auto"] if stages and grouped(hosts, 1, None) else []), *smaller(load, nodes, stages)]
    would.append(f"one node more with {format_size(missing + own)} free")
    return {"missing_bytes": missing, "reasons": (reason,), "would_fit": tuple(would)}


def smaller(load: Load, nodes: Sequence[Node], stages: int | None) -> list[str]:
    """Which packed weights, or which shorter context, would fit on these nodes."""
    found = []
    for bits in (8, 4):
        tables = load.config.quantised(bits).embedding_bits
        packed = replace(load, precision=replace(load.precision, bits=bits, embedding_bits=tables))
        if (not load.precision.bits or bits < load.precision.bits) and fits(packed, nodes, stages):
            found.append(f"--quant int{bits}")
    context = load.context // 2
    while context and not fits(replace(load, context=context), nodes, stages):
        context //= 2
    return [*found, f"--context {context}"] if context else found


def fits(load: Load, nodes: Sequence[Node], stages: int | None) -> bool:
    return bool(grouped(hosts_of(load, nodes), 1, stages))
