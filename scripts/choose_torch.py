"""Prints the pip requirement of the torch build that this machine can run. Standard library only: it runs first.

Without an NVIDIA driver that is the CPU build. With one, the newest build whose CUDA lies within the driver's ceiling
and whose architectures hold every card: the doctor's own answer (glmdoctor/readings/torch_builds.py), from the clone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from glmdoctor.readings.torch_builds import best, cpu_build


def driver_ceiling() -> tuple[int, int] | None:
    """(major, minor) of the newest CUDA that the loaded driver supports; None where no driver is loaded.

    cuDriverGetVersion alone is asked: unlike cuInit it creates no device node.
    """
    if not (os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/dxg")):
        return None
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value == 0:
        return None
    return version.value // 1000, version.value % 1000 // 10


def capabilities() -> list[tuple[int, int]]:
    """Compute capabilities of the cards ((6, 1) for a Tesla P4), by nvidia-smi; empty where it does not tell."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return [divmod(round(float(line) * 10), 10) for line in answer.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def in_configured_index(requirement: str) -> bool:
    """Does the index or the links folder that pip is configured with have it? (Metadata only, nothing is installed.)"""
    listing = [sys.executable, "-m", "pip", "index", "versions", "torch", "--disable-pip-version-check"]
    answer = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
    return requirement.split("==")[1] in answer.replace(",", " ").split()


def cpu_requirement() -> str:
    """The CPU build: from pip's own index where that holds it, else from PyTorch's index of CPU builds."""
    version, index = cpu_build()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"torch=={version}"  # the package index itself carries CPU builds for these
    if in_configured_index(f"torch=={version}+cpu"):
        return f"torch=={version}+cpu"
    return f"torch=={version}+cpu --extra-index-url {index}"


def requirement(ceiling: tuple[int, int] | None, cards: list[tuple[int, int]], python: tuple[int, int]) -> str:
    """For pip. Without a driver no card can be used, whatever else tells of one."""
    build = best(python, ceiling, cards) if ceiling else None
    if build is None:
        return cpu_requirement()
    return f"torch=={build.version}" + (f" --extra-index-url {build.index}" if build.index else "")


if __name__ == "__main__":
    print(requirement(driver_ceiling(), capabilities(), sys.version_info[:2]))
