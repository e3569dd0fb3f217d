"""The ways to run a model, of which one is chosen when a runner is made or its model is placed anew."""

from __future__ import annotations

from torch import nn

from glmcore.engine.graph import can_record
from glmcore.engine.native import native_model
from glmcore.engine.ways.graph import GraphWay
from glmcore.engine.ways.module import ModuleWay
from glmcore.engine.ways.native import NativeWay
from glmcore.engine.ways.rows import Rows
from glmcore.engine.ways.way import Showing, Timed, Way

__all__ = ["GraphWay", "ModuleWay", "NativeWay", "Rows", "Showing", "Timed", "Way", "way_for"]


def way_for(model: nn.Module, rows: Rows) -> Way:
    """The fastest way that the model takes as it is."""
    if can_record(model):
        return GraphWay(model, rows)
    native = native_model(model, rows.config)
    return ModuleWay(model, rows) if native is None else NativeWay(native, rows)
