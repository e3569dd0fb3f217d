"""The devices of this machine, their free memory and how fast it is read: the default of a plan. Imports no torch."""

from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from glmcore.kernels.threads import default_threads
from glmcore.plan import Device

# Left to the system and other programs.
CPU_SHARE = 0.9
CUDA_SHARE = 0.95
# Of each thread's two buffers: together larger than a processor's cache, copied in milliseconds.
COPIED_BYTES = 32 * 2**20
ROUNDS = 3


def present_devices() -> list[Device]:
    """Every NVIDIA card (by NVML), then the CPU, each with most of its free memory as budget."""
    return [*cards(), Device("cpu", int(psutil.virtual_memory().available * CPU_SHARE), memory_bandwidth())]


def free_memory(name: str) -> int | None:
    """Bytes that are free now on a device by its torch name; None where that cannot be told."""
    if name.partition(":")[0] == "cpu":
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


def memory_bandwidth() -> float:
    """Bytes/s that all cores together copy, read and written counted: what reading weights may reach."""
    threads = default_threads()
    pairs = [
        (ctypes.create_string_buffer(COPIED_BYTES), ctypes.create_string_buffer(COPIED_BYTES)) for _ in range(threads)
    ]
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            list(pool.map(lambda pair: ctypes.memmove(*pair, COPIED_BYTES), pairs))
            best = min(best, time.perf_counter() - started)
    return 2 * COPIED_BYTES * threads / best
