"""Whether the kernel's out-of-memory killer has struck: its counters, and its log where one of them says so."""

from __future__ import annotations

from glmdoctor.host.facts import KernelLog, MemoryKills, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes import kernel_log
from glmdoctor.host.probes.resources import cgroup_folders

COUNTER = "oom_kill"


def memory_kills(io: IO) -> MemoryKills | Unknown:
    if io.system != "Linux":
        return Unknown("only Linux counts what its memory killer ends")
    machine, (group, folder) = _count(io, "/proc/vmstat"), _own_group(io)
    log = kernel_log.read(io) if machine or group else Unknown("nothing was killed")
    return MemoryKills(
        machine,
        group,
        folder,
        log.source if isinstance(log, KernelLog) else None,
        log.killed if isinstance(log, KernelLog) else (),
    )


def _own_group(io: IO) -> tuple[int | None, str]:
    """The innermost cgroup that counts: those above it count other containers' and sessions' processes too."""
    for folder in cgroup_folders(io, "memory"):
        for name in ("memory.events", "memory.oom_control"):  # cgroup v2, v1
            count = _count(io, f"{folder}/{name}")
            if count is not None:
                return count, folder
    return None, ""


def _count(io: IO, path: str) -> int | None:
    for line in (io.text_or_none(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == COUNTER and value.strip().isdigit():
            return int(value)
    return None
