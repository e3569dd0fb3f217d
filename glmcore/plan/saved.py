"""A plan that was saved in a file, and may have been edited since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from glmcore.config import ModelConfig
from glmcore.errors import GlmError, plain
from glmcore.layout import piece_names
from glmcore.plan.costs import DTYPE_BYTES, Precision
from glmcore.plan.devices import is_device_name
from glmcore.plan.record import SCHEMA_VERSION, DevicePlan, Plan
from glmcore.plan.strategies import STRATEGIES
from glmcore.reading import parse_json


def plan_from_json(text: str | bytes, config: ModelConfig, where: str = "") -> Plan:
    """A saved plan, checked against the model it is to be used for. Errors: GlmError("plan-invalid")."""
    try:
        data = parse_json(text)
        if data["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"dtype is {data['dtype']!r}")
        asked = Precision.of(config, data["dtype"])
        shares = tuple(share_from_json(entry, asked) for entry in data["devices"])
        known = {field: data[field] for field in Plan.__dataclass_fields__ if field in data and field != "devices"}
        version = data["schema_version"]
        plan = Plan(**{**known, "devices": shares, "reasons": tuple(data["reasons"])})
        check_words(plan)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise GlmError(
            "plan-invalid", f"this is no plan ({plain(str(error), 120)})", where=where,
            hint="make one with glmcore plan -o FILE",
        ) from error  # fmt: skip
    check_plan(plan, version, config, where)
    return plan


def share_from_json(entry: Mapping[str, Any], asked: Precision) -> DevicePlan:
    """One device of a saved plan; older files do not say its types."""
    name = str(entry["name"])
    return DevicePlan(
        name=name,
        budget_bytes=int(entry["budget_bytes"]),
        weights_bytes=int(entry["weights_bytes"]),
        kv_cache_bytes=int(entry["kv_cache_bytes"]),
        workspace_bytes=int(entry["workspace_bytes"]),
        pieces=tuple(str(piece) for piece in entry["pieces"]),
        bandwidth=float(entry["bandwidth"]) if entry.get("bandwidth") else None,
        **{kind: str(entry.get(kind) or known) for kind, known in asdict(asked.on(name)).items()},
    )


def check_words(plan: Plan) -> None:
    """ValueError for words and numbers that no plan holds; a saved plan may have been edited."""
    allowed = {"quantize": (None, "int4", "int8"), "strategy": STRATEGIES}
    for name, words in allowed.items():
        if not isinstance(getattr(plan, name), (str, type(None))) or getattr(plan, name) not in words:
            raise ValueError(f"{name} is {getattr(plan, name)!r}")
    for name in ("context", "batch"):
        if type(getattr(plan, name)) is not int or getattr(plan, name) < 1:
            raise ValueError(f"{name} is {getattr(plan, name)!r}")
    for share in plan.devices:
        if not is_device_name(share.name):
            raise ValueError(f"{share.name!r} is no device")
        for dtype in (share.stored, share.computing, share.cache):
            if dtype not in DTYPE_BYTES:
                raise ValueError(f"{dtype!r} is no dtype")


def check_plan(plan: Plan, version: object, config: ModelConfig, where: str) -> None:
    """Whether a saved plan is for this model. Errors: GlmError("plan-invalid")."""
    if version != SCHEMA_VERSION:
        raise GlmError(
            "plan-invalid", f"the plan has schema version {version}, this program knows {SCHEMA_VERSION}", where=where
        )
    if not plan.fits:
        raise GlmError("plan-invalid", "the plan says that the model does not fit", where=where)
    wanted = set(piece_names(config))
    held = [piece for share in plan.devices for piece in share.pieces]
    if plan.generation != config.generation or set(held) != wanted or len(held) != len(wanted):
        raise GlmError(
            "plan-invalid",
            f"the plan is for {plan.model} ({plan.generation}, {sum(p.startswith('layer.') for p in held)} layers), "
            f"the model is {config.name} ({config.generation}, {config.num_layers} layers)",
            where=where,
            hint="make a new one with glmcore plan",
        )
