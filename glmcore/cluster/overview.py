"""A cluster's plan for people and for programs: the nodes as they were found, and what would run where."""

from __future__ import annotations

from typing import Any

from glmcore.cluster.nodes import Node
from glmcore.cluster.serving import Planned
from glmcore.plan import format_size
from glmcore.plan.cluster import describe


def as_json(made: Planned) -> dict[str, Any]:
    return {**made.plan.to_json(), "nodes": [node.to_json() for node in made.nodes]}


def table(made: Planned) -> str:
    """A few lines for each node, with what to do on those that get nothing, and the plan."""
    return "\n".join([*(line for node in made.nodes for line in lines(node)), "", describe(made.plan)])


def lines(node: Node) -> list[str]:
    told = [f"{node.name:8} {node.state:11} {node.address}", f"{'':8} {has(node)}"]
    if node.verdict.against:
        told.append(f"{'':8} gets nothing: {node.verdict.against}")
        told.append(f"{'':8} there: {node.verdict.fix}")
    return [line.rstrip() for line in told if line.strip()]


def has(node: Node) -> str:
    devices = ", ".join(
        f"{device.name} {format_size(device.budget)}"
        + (f" at {device.bandwidth / 1e9:.1f} GB/s" if device.bandwidth else "")
        for device in node.devices
    )
    link = f"{node.link.bandwidth / 1e6:.0f} MB/s and {node.link.latency * 1e3:.2f} ms away"
    return f"{node.threads} threads, {devices}; {link}" if devices else ""
