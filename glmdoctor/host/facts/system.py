"""The system: its kernel, distribution and processor, what steers the libraries, what glmdoctor left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class Os:
    system: str  # "Linux", "Windows", "Darwin"
    kernel: str  # release
    machine: str  # "x86_64", "aarch64"
    distribution: str  # distro id: "debian", "ubuntu", …; "" where unknown
    distribution_version: str
    pretty_name: str
    container: str | None  # "docker", "podman", "kubernetes", "lxc", "systemd-nspawn"; None outside
    wsl: bool
    effective_uid: int | None  # None on Windows
    libc: str  # "glibc 2.36", "musl 1.2.4", ""


@dataclass(frozen=True)
class Cpu:
    model: str
    logical: int
    physical: int
    usable: float  # cores this process may use: the affinity mask and the cgroup quota, whichever is smaller
    features: tuple[str, ...]  # as /proc/cpuinfo spells them, sorted


@dataclass(frozen=True)
class Process:
    pid: int
    name: str


@dataclass(frozen=True)
class Settings:
    """Variables of the environment that steer the libraries (an allow-list; nothing else is read)."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class State:
    """What glmdoctor itself left here: the private CUDA_PATH and repairs in the journal."""

    private_cuda: str | None  # folder, where it exists
    open_runs: tuple[str, ...]  # repairs that were not finished
    done_runs: tuple[str, ...]  # repairs that can be undone


@dataclass(frozen=True)
class Links:
    """What on Windows allows symbolic links to be made."""

    developer_mode: bool
    privilege: bool  # this session holds SeCreateSymbolicLinkPrivilege


class SystemFacts(Facts):
    links = Fact(Links, "links.links")
    os = Fact(Os, "system.operating_system")
    cpu = Fact(Cpu, "resources.cpu")
    settings = Fact(Settings, "leftovers.settings")
    state = Fact(State, "leftovers.state")
