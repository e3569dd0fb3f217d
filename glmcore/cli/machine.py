"""The devices of this machine and their free memory: the default budgets of a plan."""

from __future__ import annotations

import os

import psutil

from glmcore.plan import Device

# Left to the system and other programs.
CPU_SHARE = 0.9
CUDA_SHARE = 0.95


def present_devices() -> list[Device]:
    """Every NVIDIA card (by NVML), then the CPU, each with most of its free memory as budget."""
    return [*cards(), Device("cpu", int(psutil.virtual_memory().available * CPU_SHARE))]


def cards() -> list[Device]:
    """NVML is asked only where the driver is loaded: as root it would create a device node otherwise."""
    if not os.path.exists("/proc/driver/nvidia/version"):
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        free = [pynvml.nvmlDeviceGetMemoryInfo(handle).free for handle in handles]
    except pynvml.NVMLError:
        return []  # the doctor's subject; a plan for the CPU is still right
    return [Device(f"cuda:{number}", int(size * CUDA_SHARE)) for number, size in enumerate(free)]
