"""The machines of a cluster as the planner sees them."""

from __future__ import annotations

from dataclasses import dataclass

from glmcore.plan.devices import Device, is_cpu


@dataclass(frozen=True)
class Link:
    """How a machine is reached: bytes/s, and seconds that a message takes one way."""

    bandwidth: float
    latency: float


# Where nobody has measured: a gigabit's payload, and half of what Ray took for 16 KiB there and back on one machine.
USUAL = Link(117e6, 0.6e-3)
# Bytes/s of devices whose bandwidth is not known, to choose by; no speed is promised then.
ASSUMED = {True: 20e9, False: 400e9}  # by whether it is a CPU


@dataclass(frozen=True)
class Node:
    """A machine: its devices by their names there ("cpu", "cuda:0"), and how it is reached.

    broken: why it gets nothing, "" where it may get something.
    """

    name: str
    devices: tuple[Device, ...]
    link: Link = USUAL
    broken: str = ""


def speed(device: Device) -> float:
    """Bytes/s, as they are known or assumed."""
    return device.bandwidth or ASSUMED[is_cpu(device.name)]
