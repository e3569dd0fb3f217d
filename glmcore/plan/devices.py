"""Devices and their budgets, and sizes as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from glmcore.errors import GlmError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_NAME = re.compile(r"(cpu|cuda|mps|xpu)(?::\d+)?")


@dataclass(frozen=True)
class Device:
    """A device by its torch name, the bytes a plan may use on it, and its read bandwidth in bytes/s where known."""

    name: str
    budget: int
    bandwidth: float | None = None

    @property
    def is_cuda(self) -> bool:
        return self.name.startswith("cuda")


def is_cpu(name: str) -> bool:
    """The processor itself, or one of the logical devices that share it."""
    return name.partition(":")[0] == "cpu"


def is_device_name(name: str) -> bool:
    """ "cpu", "cuda:1", and the logical "cpu:1" too."""
    return _NAME.fullmatch(name) is not None


def parse_size(written: str) -> int:
    """Bytes of "7GiB", "7.5 GB", "512m" or a plain number (units of 1000, with an i of 1024).

    Errors: GlmError("usage").
    """
    match = _SIZE.fullmatch(written.strip())
    if match is None:
        raise GlmError("usage", f"{written!r} is no size", hint="write for example 7GiB or 7500MB")
    return int(float(match[1]) * UNITS[(match[2] or "").lower()])


def parse_device(written: str) -> Device:
    """A device of "cuda:0=7GiB" or, with its read bandwidth, "cpu=16GiB@24GB".

    Errors: GlmError("usage"), also for a size of zero.
    """
    name, equals, rest = written.partition("=")
    size, at, bandwidth = rest.partition("@")
    if not equals or not is_device_name(name):
        raise GlmError(
            "usage", f"{written!r} names no device and budget", hint="write for example cuda:0=7GiB or cpu=16GiB"
        )
    budget = parse_size(size)
    if budget == 0:
        raise GlmError("usage", f"the budget of {name} is zero", hint="leave the device out instead")
    speed = float(parse_size(bandwidth.removesuffix("/s"))) if at else None
    if speed == 0:
        raise GlmError("usage", f"the bandwidth of {name} is zero", hint="leave the @ out where it is not known")
    return Device(name, budget, speed)


def format_size(size: float) -> str:
    """Bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
