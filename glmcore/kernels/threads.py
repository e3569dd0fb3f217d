"""How many threads to compute with: physical cores, of those that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_FOLDER = Path("/sys/devices/system/cpu")
CGROUP_FOLDER = Path("/sys/fs/cgroup")

# About 20 microseconds of waiting, where libgomp's own choice is milliseconds.
SPINS = "1000"


def share_cores() -> None:
    """Let OpenMP threads that wait go to sleep soon; to be called before torch, which brings OpenMP, is imported.

    A thread that spins until the others arrive uses up its turn on a core that other programs want too, and is then
    kept waiting itself: on a busy machine that made every step a hundred times slower. Quiet machines lose 2 %.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def default_threads() -> int:
    """Physical cores within the affinity mask and the control group's quota, at least one."""
    return max(1, int(min(physical_cores(_allowed()), quota())))


def usable_cpus() -> int:
    """Logical processors within the affinity mask and the control group's quota, at least one."""
    return max(1, int(min(len(_allowed()), quota())))


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def physical_cores(cpus: set[int], folder: Path = CPU_FOLDER) -> int:
    """Distinct cores among logical CPUs; a second hyper-thread adds no arithmetic units, only contention."""
    return len({_read(folder / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus})


def quota(folder: Path = CGROUP_FOLDER) -> float:
    """CPUs that the control group grants (infinite without a limit), version 2 or 1."""
    limit, _, period = _read(folder / "cpu.max").partition(" ")
    if not limit:
        limit, period = _read(folder / "cpu/cpu.cfs_quota_us"), _read(folder / "cpu/cpu.cfs_period_us")
    if not limit.isdigit() or not period.isdigit() or int(period) == 0:
        return math.inf
    return int(limit) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
