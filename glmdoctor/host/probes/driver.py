"""The NVIDIA card on the bus, the kernel module, its device nodes and who holds them. No node is ever opened."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator

from glmdoctor.host.facts import DeviceNode, KernelDriver, PciDisplay, Process, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes import modules

PCI = "/sys/bus/pci/devices"
DISPLAY_CLASSES = ("03", "12")  # display controllers; processing accelerators
VERSION_FILES = ("/proc/driver/nvidia/version", "/sys/module/nvidia/version")
NVSWITCH = "/dev/nvidia-nvswitch"
FABRIC_MANAGER = "nv-fabricmanage"  # the kernel keeps 15 letters of a program's name


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
    loaded = version is not None or io.text_or_none("/sys/module/nvidia/initstate") == "live"
    kernel, nodes = io.text_or_none("/proc/sys/kernel/osrelease") or "", tuple(_nodes(io))
    files = modules.of_kernel(io, kernel)
    on_disk = {file.version for file in files if file.version}
    return KernelDriver(
        loaded=loaded,
        version=version,
        source=source,
        open_module="Open Kernel Module" in text,
        nouveau_loaded=io.is_folder("/sys/module/nouveau"),
        installed_versions=tuple(sorted(on_disk | set(modules.dkms_versions(io)))),
        nodes=nodes,
        holders=_holders(io) if nodes else (),
        fabric_manager=_fabric_manager(io) if any(NVSWITCH in node.path for node in nodes) else None,
        modules=files,
        other_kernels=() if loaded else modules.other_kernels(io, kernel),
        dxg=io.exists("/dev/dxg"),
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
