"""A cluster's plan that was saved in a file, and may have been edited since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmcore.config import ModelConfig
from glmcore.errors import GlmError, plain
from glmcore.layout import pieces_of_part
from glmcore.plan.cluster.record import SCHEMA_VERSION, ClusterPlan, Replica, Stage
from glmcore.plan.costs import DTYPE_BYTES, Precision
from glmcore.plan.saved import check_words, share_from_json
from glmcore.reading import parse_json


def cluster_plan_from_json(text: str | bytes, config: ModelConfig, where: str = "") -> ClusterPlan:
    """A saved plan, checked against the model it is to be used for. Errors: GlmError("plan-invalid")."""
    try:
        data = parse_json(text)
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {data['schema_version']!r}, this program knows {SCHEMA_VERSION}")
        if data["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"dtype is {data['dtype']!r}")
        plan = _plan(data, Precision.of(config, data["dtype"]))
        check(plan, config)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = f"this is no plan of a cluster for {config.name} ({plain(str(error), 120)})"
        raise GlmError("plan-invalid", what, where=where, hint="make one with glmcore cluster plan") from error
    return plan


def _plan(data: Mapping[str, Any], asked: Precision) -> ClusterPlan:
    words = {name: data[name] for name in ("model", "generation", "quantize", "dtype", "context", "batch")}
    return ClusterPlan(
        **words, fits=data["fits"] is True, replicas=tuple(_replica(entry, asked) for entry in data["replicas"]),
        idle=tuple(map(str, data["idle"])), refused={str(k): str(v) for k, v in data["refused"].items()},
        reasons=tuple(map(str, data["reasons"])), missing_bytes=int(data.get("missing_bytes", 0)),
        would_fit=tuple(map(str, data.get("would_fit", ()))),
    )  # fmt: skip


def _replica(entry: Mapping[str, Any], asked: Precision) -> Replica:
    stages = tuple(
        Stage(str(each["node"]), int(each["first"]), int(each["last"]),
              tuple(share_from_json(device, asked) for device in each["devices"]))
        for each in entry["stages"]
    )  # fmt: skip
    seconds = entry["seconds"]
    return Replica(stages, float(entry["hop_seconds"]), None if seconds is None else float(seconds))


def check(plan: ClusterPlan, config: ModelConfig) -> None:
    """ValueError where a plan is not for this model, or does not hold each piece once in each replica."""
    if (plan.model, plan.generation) != (config.name, config.generation):
        raise ValueError(f"it is for {plan.model} ({plan.generation})")
    if not plan.fits or not plan.replicas:
        raise ValueError("it says that the model does not fit")
    nodes = [stage.node for replica in plan.replicas for stage in replica.stages]
    if len(set(nodes)) < len(nodes) or plan.refused.keys() & set(nodes):
        raise ValueError("a node is given twice, or was refused")
    for replica in plan.replicas:
        edges = [0, *(stage.last for stage in replica.stages)]
        if [stage.first for stage in replica.stages] != edges[:-1] or edges[-1] != config.num_layers:
            raise ValueError("the layers of a replica's stages do not follow each other")
        for stage in replica.stages:
            held = sorted(piece for device in stage.devices for piece in device.pieces)
            if held != sorted(pieces_of_part(config, stage.first, stage.last)):
                raise ValueError(f"{stage.node} does not hold the layers that it says")
            check_words(plan.plan_of(stage))
