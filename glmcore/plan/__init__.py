"""Where each piece of a model goes, counted in bytes before anything is loaded. Pure arithmetic, no torch."""

from glmcore.plan.costs import CUDA_CONTEXT_BYTES, Piece, Precision, kv_bytes_per_token, pieces
from glmcore.plan.devices import Device, format_size, parse_device, parse_size
from glmcore.plan.manual import manual_placement
from glmcore.plan.planner import make_plan
from glmcore.plan.record import DevicePlan, Plan
from glmcore.plan.saved import plan_from_json
from glmcore.plan.stages import stage_plan
from glmcore.plan.strategies import NUMBERED, STRATEGIES
from glmcore.plan.types import Types
from glmcore.plan.workspace import workspace_bytes

__all__ = [
    "CUDA_CONTEXT_BYTES",
    "NUMBERED",
    "STRATEGIES",
    "Device",
    "DevicePlan",
    "Piece",
    "Plan",
    "Precision",
    "Types",
    "format_size",
    "kv_bytes_per_token",
    "make_plan",
    "manual_placement",
    "parse_device",
    "parse_size",
    "pieces",
    "plan_from_json",
    "stage_plan",
    "workspace_bytes",
]
