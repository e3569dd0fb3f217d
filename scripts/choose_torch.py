"""Prints the pip requirement of the torch build that this machine can run. Standard library only: it runs first.

Without an NVIDIA driver that is the CPU build. With one, the newest build whose CUDA lies within the driver's ceiling
and whose architectures hold every card (glmdoctor/knowledge/torch_builds.json; each row with its source).
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "glmdoctor" / "knowledge" / "torch_builds.json"


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


def card_architectures() -> list[int]:
    """Compute capabilities of the cards (61 for a Tesla P4), by nvidia-smi; empty where it does not tell."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return [round(float(line) * 10) for line in answer.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def choose(
    table: dict, ceiling: tuple[int, int] | None, architectures: list[int], python: tuple[int, int]
) -> dict | None:
    """The newest row within the ceiling that has code for every card and runs on ``python``; None: the CPU build."""
    if ceiling is None:
        return None
    for row in table["builds"]:
        oldest, newest = (number(version) for version in row["pythons"])
        fits_cards = all(row["oldest_sm"] <= arch <= row["newest_sm"] for arch in architectures)
        if number(row["cuda"]) <= ceiling and fits_cards and oldest <= python <= newest:
            return row
    return None


def in_configured_index(requirement: str) -> bool:
    """Does the index or the links folder that pip is configured with have it? (Metadata only, nothing is installed.)"""
    listing = [sys.executable, "-m", "pip", "index", "versions", "torch", "--disable-pip-version-check"]
    answer = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
    return requirement.split("==")[1] in answer.replace(",", " ").split()


def cpu_requirement(table: dict) -> str:
    """The CPU build: from pip's own index where that holds it, else from PyTorch's index of CPU builds."""
    version = table["tested"]["version"]
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"torch=={version}"  # the package index itself carries CPU builds for these
    if in_configured_index(f"torch=={version}+cpu"):
        return f"torch=={version}+cpu"
    return f"torch=={version}+cpu --extra-index-url {table['cpu_index']}"


def main() -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    row = choose(table, driver_ceiling(), card_architectures(), sys.version_info[:2])
    if row is None:
        print(cpu_requirement(table))
    else:
        print(f"torch=={row['version']}" + (f" --extra-index-url {row['index']}" if row["index"] else ""))


if __name__ == "__main__":
    main()
