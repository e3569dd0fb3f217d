"""The cards on the bus, the driver in the kernel, and what may keep either from being used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glmdoctor.host.facts.base import Fact, Facts
from glmdoctor.host.facts.system import Process


@dataclass(frozen=True)
class PciDisplay:
    """A display or compute controller on the PCI bus."""

    address: str  # "0000:01:00.0"
    vendor: str  # "10de"
    device: str  # "1b38"
    device_class: str  # "0300"
    driver: str | None  # kernel driver bound to it: "nvidia", "nouveau", "vfio-pci"


@dataclass(frozen=True)
class Accelerator:
    """Hardware for computing that is not NVIDIA's, as the system shows it."""

    kind: str  # "amd" "intel" "ascend" "apple" "hexaflake"
    pci: tuple[str, ...]  # addresses
    nodes: tuple[str, ...]  # device nodes, named and never opened
    driver: str | None  # the kernel's
    runtime: str | None  # the maker's library or folder that was found


@dataclass(frozen=True)
class DeviceNode:
    path: str
    kind: str  # "char", "file", "directory", "missing"
    mode: int  # permission bits
    uid: int
    gid: int
    readable_and_writable: bool  # by access(2) with this process's ids; nothing is opened


@dataclass(frozen=True)
class ModuleFile:
    """A kernel module on the disk; what a compressed one says of itself is not read."""

    path: str
    version: str | None
    kernel: str | None  # the release that it was built for
    signed: bool | None


@dataclass(frozen=True)
class KernelDriver:
    """The NVIDIA kernel module, and what stands in its place."""

    loaded: bool
    version: str | None  # of the loaded module, from /proc/driver/nvidia/version or /sys/module/nvidia/version
    source: str | None  # the file that gave the version
    open_module: bool  # "Open Kernel Module"
    nouveau_loaded: bool
    installed_versions: tuple[str, ...]  # of nvidia.ko under /lib/modules/<kernel>, by reading; may be empty
    nodes: tuple[DeviceNode, ...]  # /dev/nvidia*
    holders: tuple[Process, ...]  # processes that hold /dev/nvidia* open, as far as this user can see
    fabric_manager: bool | None = None  # does it run; None without NVSwitch
    modules: tuple[ModuleFile, ...] = ()  # nvidia.ko on the disk for the running kernel
    other_kernels: tuple[str, ...] = ()  # those that have an nvidia.ko; only looked for where none is loaded
    dxg: bool | None = None  # is WSL's device node /dev/dxg there


@dataclass(frozen=True)
class Guards:
    """What may keep a module from being loaded or a device from being opened, whatever the modes say."""

    secure_boot: bool | None  # None where the firmware does not tell
    signatures_required: bool | None  # does the kernel refuse modules without a trusted signature
    key_enrolled: bool | None  # is one of this machine's own module-signing keys known to the firmware's shim
    selinux_enforcing: bool | None  # None where it cannot be seen, as in containers
    selinux_type: str | None  # of this process: "container_t", "unconfined_t"; None without SELinux


@dataclass(frozen=True)
class Containers:
    """How containers of this host would get its cards."""

    docker: str | None  # the daemon's program or socket
    toolkit: str | None  # a program of the NVIDIA Container Toolkit
    runtimes: Mapping[str, str | None] = field(default_factory=dict)  # of daemon.json → program, None where it is gone
    cdi: tuple[str, ...] = ()  # CDI specifications that name NVIDIA's devices


@dataclass(frozen=True)
class Xid:
    """A fault that the NVIDIA driver wrote to the kernel log."""

    number: int
    pci: str
    line: str


@dataclass(frozen=True)
class DmaFault:
    """An access of a device that the IOMMU refused, as the kernel logged it."""

    pci: str  # "0000:41:00.0"
    line: str


@dataclass(frozen=True)
class KernelLog:
    """What the kernel's log since the start says about cards and memory."""

    source: str  # "dmesg", or the file
    xids: tuple[Xid, ...]  # each card's and number's last, in the order of the log
    killed: tuple[Process, ...] = ()  # by the out-of-memory killer
    unsigned: tuple[str, ...] = ()  # lines by which the kernel refused a module for its signature
    foreign: tuple[str, ...] = ()  # lines by which it refused NVIDIA's module as another kernel's
    dma_faults: tuple[DmaFault, ...] = ()  # each device's last


class DriverFacts(Facts):
    pci = Fact(tuple[PciDisplay, ...], "driver.pci")
    accelerators = Fact(tuple[Accelerator, ...], "accelerators.accelerators")
    kernel_driver = Fact(KernelDriver, "driver.kernel_driver")
    guards = Fact(Guards, "guards.guards")
    containers = Fact(Containers, "containers.containers")
    kernel_log = Fact(KernelLog, "kernel_log.kernel_log")
