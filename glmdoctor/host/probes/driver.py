"""The NVIDIA card on the bus, the kernel module, its device nodes and who holds them. No node is ever opened."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator

from glmdoctor.host.facts import DeviceNode, KernelDriver, PciDisplay, Process, Unknown
from glmdoctor.host.io import IO

PCI = "/sys/bus/pci/devices"
DISPLAY_CLASSES = ("03", "12")  # display controllers; processing accelerators
VERSION_FILES = ("/proc/driver/nvidia/version", "/sys/module/nvidia/version")
# Where distributions and NVIDIA's installer put the module, below /lib/modules/<kernel>.
MODULE_FOLDERS = (
    "updates/dkms",
    "updates",
    "extra",
    "extra/nvidia",
    "kernel/drivers/video",
    "kernel/drivers/video/nvidia",
)
NVSWITCH = "/dev/nvidia-nvswitch"
FABRIC_MANAGER = "nv-fabricmanage"  # the kernel keeps 15 letters of a program's name
MODULE_FILES = ("nvidia.ko", "nvidia-current.ko")


def pci(io: IO) -> tuple[PciDisplay, ...] | Unknown:
    if not io.is_folder(PCI):
        return Unknown(f"{PCI} is not there: the PCI bus cannot be listed on this system")
    return tuple(card for address in io.names(PCI) if (card := _display(io, address)))


def _display(io: IO, address: str) -> PciDisplay | None:
    folder = f"{PCI}/{address}"
    number = (io.text_or_none(f"{folder}/class") or "").removeprefix("0x")
    if not number.startswith(DISPLAY_CLASSES):
        return None
    return PciDisplay(
        address=address,
        vendor=(io.text_or_none(f"{folder}/vendor") or "").removeprefix("0x"),
        device=(io.text_or_none(f"{folder}/device") or "").removeprefix("0x"),
        device_class=number[:4],
        driver=_bound_driver(io, folder),
    )


def _bound_driver(io: IO, folder: str) -> str | None:
    try:
        return posixpath.basename(io.readlink(f"{folder}/driver"))
    except OSError:
        return None


def kernel_driver(io: IO) -> KernelDriver | Unknown:
    if io.system != "Linux":
        return Unknown(f"the kernel module is read from /proc and /sys, which {io.system} does not have")
    version, source, text = _loaded_version(io)
    nodes = tuple(_nodes(io))
    return KernelDriver(
        loaded=version is not None or io.text_or_none("/sys/module/nvidia/initstate") == "live",
        version=version,
        source=source,
        open_module="Open Kernel Module" in text,
        nouveau_loaded=io.is_folder("/sys/module/nouveau"),
        installed_versions=tuple(sorted(set(_installed_versions(io)))),
        nodes=nodes,
        holders=_holders(io) if nodes else (),
        fabric_manager=_fabric_manager(io) if any(NVSWITCH in node.path for node in nodes) else None,
    )


def _loaded_version(io: IO) -> tuple[str | None, str | None, str]:
    """Version, the file that gave it, and that file's text."""
    for path in VERSION_FILES:
        text = io.text_or_none(path) or ""
        found = re.search(r"\b(\d{2,4}\.\d+(?:\.\d+)?)\b", text.partition("\n")[0])
        if found:
            return found.group(1), path, text
    return None, None, ""


def _nodes(io: IO) -> Iterator[DeviceNode]:
    for name in io.names("/dev"):
        if name.startswith("nvidia"):
            yield _node(io, f"/dev/{name}")


def _node(io: IO, path: str) -> DeviceNode:
    try:
        status = io.stat(path)
    except OSError:
        return DeviceNode(path, "missing", 0, 0, 0, False)
    kinds = ((stat.S_ISCHR, "char"), (stat.S_ISDIR, "directory"))
    kind = next((name for test, name in kinds if test(status.st_mode)), "file")
    usable = io.access(path, os.R_OK | os.W_OK)
    return DeviceNode(path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, usable)


def _holders(io: IO) -> tuple[Process, ...]:
    """Processes with an open /dev/nvidia*, by the links in /proc/<pid>/fd; other users' stay unseen without root."""
    pids = (int(name) for name in io.names("/proc") if name.isdigit())
    return tuple(Process(pid, io.text_or_none(f"/proc/{pid}/comm") or "") for pid in sorted(pids) if _holds(io, pid))


def _fabric_manager(io: IO) -> bool:
    return any(io.text_or_none(f"/proc/{name}/comm") == FABRIC_MANAGER for name in io.names("/proc") if name.isdigit())


def _holds(io: IO, pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    for name in io.names(folder):
        try:
            if io.readlink(f"{folder}/{name}").startswith("/dev/nvidia"):
                return True
        except OSError:  # closed meanwhile
            continue
    return False


def _installed_versions(io: IO) -> Iterator[str]:
    """Versions of the module on disk for the running kernel, and those that DKMS has sources of."""
    kernel = io.text_or_none("/proc/sys/kernel/osrelease") or ""
    for folder in MODULE_FOLDERS:
        for name in MODULE_FILES:
            version = _module_version(io, f"/lib/modules/{kernel}/{folder}/{name}")
            if version:
                yield version
    for name in ("nvidia", "nvidia-current"):
        yield from (version for version in io.names(f"/var/lib/dkms/{name}") if version[:1].isdigit())


def _module_version(io: IO, path: str) -> str | None:
    """The `version=` entry of a module's .modinfo section; None where there is none to read."""
    if not io.is_file(path):
        return None
    from elftools.elf.elffile import ELFFile

    try:
        with io.open(path) as file:
            section = ELFFile(file).get_section_by_name(".modinfo")
            entries = section.data().split(b"\0") if section else []
    except Exception:  # pyelftools raises many kinds on a damaged file; such a module has no version
        return None
    return next((entry[8:].decode("ascii", "replace") for entry in entries if entry.startswith(b"version=")), None)
