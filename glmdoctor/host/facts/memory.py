"""Memory and disks: what there is of them, and what the kernel ended for want of it."""

from __future__ import annotations

from dataclasses import dataclass

from glmdoctor.host.facts.base import Fact, Facts
from glmdoctor.host.facts.system import Process


@dataclass(frozen=True)
class Memory:
    total: int
    available: int
    swap_free: int
    limit: int | None  # cgroup memory.max or ulimit -v, the smaller; None where unlimited
    limit_used: int | None  # what of `limit` is used already; None where unlimited
    commit_free: int | None = None  # Windows: what this process can still commit, page file included

    @property
    def usable(self) -> int:
        """Bytes that this process can still take."""
        if self.limit is None:
            return self.available
        return max(0, min(self.available, self.limit - (self.limit_used or 0)))


@dataclass(frozen=True)
class Disk:
    path: str  # what was asked for
    total: int
    free: int
    writable: bool


@dataclass(frozen=True)
class MemoryKills:
    """How often the kernel's out-of-memory killer struck, by the kernel's own counters, and whom, by its log."""

    machine: int | None  # since the start; None where the kernel does not count
    group: int | None  # in the cgroup of this process (its container or session)
    group_path: str  # that cgroup's folder; "" where there is none
    log: str | None  # "dmesg", or the file; None where there was no need to look, or this user may not
    killed: tuple[Process, ...] = ()


class MemoryFacts(Facts):
    memory = Fact(Memory, "resources.memory")
    disk_cache = Fact(Disk, "resources.disk_cache")
    shared_memory = Fact(Disk, "resources.shared_memory")
    memory_kills = Fact(MemoryKills, "kills.memory_kills")
