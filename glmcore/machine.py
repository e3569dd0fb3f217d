"""The devices of this machine, their free memory and how fast it is read: the default of a plan. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from glmcore.folders import user_folder
from glmcore.output import replacing
from glmcore.plan import Device
from glmcore.plan.devices import is_cpu

# Left to the system and other programs.
CPU_SHARE = 0.9
CUDA_SHARE = 0.95


def present_devices() -> list[Device]:
    """Every NVIDIA card (by NVML), then the CPU, each with most of its free memory as budget."""
    return [*cards(), Device("cpu", int(psutil.virtual_memory().available * CPU_SHARE), remembered_bandwidth())]


def free_memory(name: str) -> int | None:
    """Bytes that are free now on a device by its torch name; None where that cannot be told."""
    if is_cpu(name):
        return psutil.virtual_memory().available
    found = {f"cuda:{number}": free for number, (free, _) in enumerate(_cards())}
    return found.get("cuda:0" if name == "cuda" else name)


def cards() -> list[Device]:
    return [Device(f"cuda:{n}", int(free * CUDA_SHARE), speed) for n, (free, speed) in enumerate(_cards())]


def _cards() -> list[tuple[int, float | None]]:
    """Free bytes and bytes/s of each card. NVML is asked only where the driver is loaded: as root it would create a
    device node otherwise."""
    if not os.path.exists("/proc/driver/nvidia/version"):
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [(pynvml.nvmlDeviceGetMemoryInfo(handle).free, _stated_bandwidth(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []  # the doctor's subject; a plan for the CPU is still right


def _stated_bandwidth(handle: object) -> float | None:
    """Bytes/s that the card's data sheet promises: two transfers for each clock of its memory bus."""
    import pynvml

    try:
        clock = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)  # MHz
        return clock * 1e6 * 2 * pynvml.nvmlDeviceGetMemoryBusWidth(handle) / 8
    except pynvml.NVMLError:
        return None


def bandwidths() -> dict[str, float]:
    """Bytes/s of this machine's devices as far as they are known, without measuring anything: of cards as NVML states
    them, of the CPU as ``glmcore bench`` has measured it."""
    known = {f"cuda:{number}": stated for number, (_, stated) in enumerate(_cards()) if stated}
    measured = remembered_bandwidth()
    return known | ({"cpu": measured} if measured else {})


def with_bandwidth(device: Device, known: Mapping[str, float]) -> Device:
    """The device with this machine's bandwidth where none was given for it."""
    name = "cpu" if device.name.startswith("cpu") else device.name
    return device if device.bandwidth else replace(device, bandwidth=known.get(name))


def remember_bandwidth(bytes_per_s: float) -> None:
    """Keep what was measured of this machine's memory; where nothing can be kept it stays unknown."""
    path = _memory_file()
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(json.dumps({"machine": platform.node(), "bytes_per_s": bytes_per_s}).encode())


def remembered_bandwidth() -> float | None:
    """What was measured here once; a home folder may be another machine's too."""
    path = _memory_file()
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return float(found["bytes_per_s"]) if found["machine"] == platform.node() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _memory_file() -> Path | None:
    """In the user's cache; None where there is no such folder."""
    folder = user_folder("cache", "glmcore")
    return None if folder is None else Path(folder, "memory.json")
