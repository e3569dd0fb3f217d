"""What a process may use here: cores, memory, disk, after the limits that hold it."""

from __future__ import annotations

import ctypes
import os
import posixpath
from collections.abc import Iterator

from glmdoctor.host.facts import Cpu, Disk, Memory, Unknown
from glmdoctor.host.io import IO

CGROUP = "/sys/fs/cgroup"
# cgroup v1 writes "no limit" as a number near 2**63, rounded to pages.
NO_LIMIT = 1 << 60
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (looked at, nothing is put there)
KIB = 1024


def cpu(io: IO) -> Cpu:
    logical = os.cpu_count() or 1
    fields = list(_cpuinfo(io))
    model = next((value for key, value in fields if key in ("model name", "Model", "cpu model")), "")
    features = next((value for key, value in fields if key in ("flags", "Features")), "")
    return Cpu(
        model=model,
        logical=logical,
        physical=_physical_cores(fields) or logical,
        usable=min(_affinity(logical), _cpu_quota(io) or logical),
        features=tuple(sorted(features.split())),
    )


def _cpuinfo(io: IO) -> Iterator[tuple[str, str]]:
    for line in (io.text_or_none("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()


def _physical_cores(fields: list[tuple[str, str]]) -> int:
    """Distinct pairs of package and core; 0 where the kernel does not tell (arm)."""
    packages = [value for key, value in fields if key == "physical id"]
    cores = [value for key, value in fields if key == "core id"]
    return len(set(zip(packages, cores, strict=False)))


def _affinity(logical: int) -> float:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical


def _cpu_quota(io: IO) -> float | None:
    """Cores that the tightest cgroup on the way up grants; None where none limits."""
    quotas = []
    for folder in cgroup_folders(io, "cpu"):
        quota, _, period = (io.text_or_none(f"{folder}/cpu.max") or "").partition(" ")
        if not quota:
            quota = io.text_or_none(f"{folder}/cpu.cfs_quota_us") or "max"
            period = io.text_or_none(f"{folder}/cpu.cfs_period_us") or "100000"
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and "-1" mean no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def cgroup_folders(io: IO, controller: str) -> Iterator[str]:
    """This process's cgroup folders for a controller, innermost first, v1 and v2.

    Inside a container the path named in /proc/self/cgroup may not be mounted; the root of the mount is then it.
    """
    for line in (io.text_or_none("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            mounts = [f"{CGROUP}/{controllers}", f"{CGROUP}/{controller}"]
        elif controllers == "":
            mounts = [CGROUP, f"{CGROUP}/unified"]
        else:
            continue
        for mount in mounts:
            if not io.is_folder(mount):
                continue
            while path not in ("", "/"):
                yield mount + path
                path = posixpath.dirname(path)
            yield mount
            break


def memory(io: IO) -> Memory | Unknown:
    sizes = _meminfo(io) or _psutil_memory()
    if sizes is None:
        return Unknown("neither /proc/meminfo nor psutil can be read")
    limits = [*_cgroup_limits(io), *_address_space_limit(io)]
    limit, used = min(limits, key=lambda pair: pair[0] - pair[1], default=(None, None))
    return Memory(*sizes, limit=limit, limit_used=used, commit_free=_commit_free(io))


def _meminfo(io: IO) -> tuple[int, int, int] | None:
    """Total, available, free swap."""
    sizes = {}
    for line in (io.text_or_none("/proc/meminfo") or "").splitlines():
        key, _, value = line.partition(":")
        if value.split() and value.split()[0].isdigit():
            sizes[key] = int(value.split()[0]) * KIB
    if "MemTotal" not in sizes:
        return None
    available = sizes.get("MemAvailable", sizes.get("MemFree", 0) + sizes.get("Cached", 0))
    return sizes["MemTotal"], available, sizes.get("SwapFree", 0)


def _psutil_memory() -> tuple[int, int, int] | None:
    try:
        import psutil  # a binary wheel: may be missing or broken on rare systems
    except ImportError:
        return None
    main = psutil.virtual_memory()
    return main.total, main.available, psutil.swap_memory().free


def _commit_free(io: IO) -> int | None:
    """ullAvailPageFile of GlobalMemoryStatusEx; None on other systems."""
    if io.system != "Windows" or not hasattr(ctypes, "windll"):
        return None
    status = (ctypes.c_ulonglong * 8)()  # two 32-bit numbers, then seven of 64 bits
    ctypes.cast(status, ctypes.POINTER(ctypes.c_uint32))[0] = ctypes.sizeof(status)
    done = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status[4]) if done else None


def _cgroup_limits(io: IO) -> Iterator[tuple[int, int]]:
    for folder in cgroup_folders(io, "memory"):
        limit = io.text_or_none(f"{folder}/memory.max") or io.text_or_none(f"{folder}/memory.limit_in_bytes") or ""
        used = io.text_or_none(f"{folder}/memory.current") or io.text_or_none(f"{folder}/memory.usage_in_bytes") or "0"
        if limit.isdigit() and int(limit) < NO_LIMIT:
            yield int(limit), max(0, int(used) - _reclaimable(io, folder))


def _reclaimable(io: IO, folder: str) -> int:
    """Page cache that the kernel gives back under pressure, which usage counts all the same."""
    lines = (line.split() for line in (io.text_or_none(f"{folder}/memory.stat") or "").splitlines())
    stat = {parts[0]: int(parts[1]) for parts in lines if len(parts) == 2 and parts[1].isdigit()}
    return stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _address_space_limit(io: IO) -> Iterator[tuple[int, int]]:
    """ulimit -v, which a program started from here inherits: nothing of it is used yet."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit, 0


def disk_cache(io: IO) -> Disk | Unknown:
    """The file system of glmcore's cache."""
    from glmcore.folders import user_folder

    path = user_folder("cache", "glmcore")
    return disk(io, path) if path else Unknown("this user has no home folder")


def shared_memory(io: IO) -> Disk | Unknown:
    if not io.is_folder(SHARED_MEMORY):
        return Unknown(f"there is no {SHARED_MEMORY}")
    return disk(io, SHARED_MEMORY)


def disk(io: IO, path: str) -> Disk:
    """The file system of ``path``, by the nearest folder above it that exists."""
    import shutil

    folder = path
    while not io.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    in_the_way = not io.is_folder(folder)  # a file where a folder would have to be
    folder = os.path.dirname(folder) if in_the_way else folder
    usage = shutil.disk_usage(io.place(folder))
    # /proc and its like say that root may write, and hold no files: they have no size.
    writable = bool(usage.total) and not in_the_way and io.access(folder, os.W_OK | os.X_OK)
    return Disk(path=path, total=usage.total, free=usage.free, writable=writable)
