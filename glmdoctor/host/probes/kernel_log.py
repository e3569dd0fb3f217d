"""The kernel's log: the faults that the NVIDIA driver reports in it (Xid), why its module was refused, and whom the
memory killer ended. No device is opened for it: ``dmesg --syslog`` asks the kernel by a system call.
"""

from __future__ import annotations

import os
import re

from glmdoctor.host.facts import DmaFault, KernelDriver, KernelLog, PciDisplay, Process, Unknown, Xid
from glmdoctor.host.io import IO

FILES = ("/var/log/kern.log", "/var/log/messages", "/var/log/syslog")
TIME_LIMIT = 3.0  # seconds
TAIL = 1 << 20  # bytes of a log file's end
XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d{1,9})")
KILLED = re.compile(r"[Oo]ut of memory: Killed process (\d{1,9}) \(([^)]*)\)|oom-kill:.*task=([^,]+),pid=(\d{1,9})")
# Neither the signature's verdict nor that of the lockdown names the module.
UNSIGNED = re.compile(
    r"Loading of [\w ]+ is rejected|unsigned module loading is restricted"
    r"|nvidia.*(?:Key was rejected by service|Required key not available)"
)
FOREIGN = re.compile(
    r"nvidia[\w-]*: (?:version magic .* should be|disagrees about version of symbol)"
    r"|nvidia[\w-]*: no symbol version for module_layout"
    r"|nvidia.*(?:Exec format error|Invalid module format)"
)
# Of AMD's IOMMU (two ages) and of Intel's; both name the device whose access they refused.
DMA_FAULT = re.compile(
    r"(?:AMD-Vi: Event logged \[IO_PAGE_FAULT device=([0-9a-f:.]{7,12})|([0-9a-f:.]{7,12}): AMD-Vi: Event logged"
    r" \[IO_PAGE_FAULT|DMAR: \[DMA [^\]]{4,24}\] Request device \[([0-9a-f:.]{7,12})\])"
)
STARTED = re.compile(r"kernel: .*Linux version \d")
LINE = 300  # characters that are kept of one
NVIDIA = "10de"


def kernel_log(
    io: IO, kernel_driver: KernelDriver | Unknown, pci: tuple[PciDisplay, ...] | Unknown = ()
) -> KernelLog | Unknown:
    """Read only where there is an NVIDIA module or card; by ``dmesg``, or where it may not, from the log files."""
    if isinstance(kernel_driver, Unknown):
        return kernel_driver
    cards = () if isinstance(pci, Unknown) else pci
    if not kernel_driver.loaded and not any(card.vendor == NVIDIA for card in cards):
        return Unknown("the NVIDIA module is not loaded, so it wrote nothing to the kernel's log")
    return read(io)


def read(io: IO) -> KernelLog | Unknown:
    """The log, by ``dmesg`` or from the files."""
    text, source = _by_dmesg(io), "dmesg"
    if text is None:
        text, source = _by_file(io)
    if text is None:
        return Unknown("this user may not read the kernel's log")
    return parsed(text, source)


def _by_dmesg(io: IO) -> str | None:
    if io.root != "/":  # a fake root has files alone: the running kernel's log is not its own
        return None
    done = io.run(["dmesg", "--syslog"], TIME_LIMIT)
    return done.out if done.code == 0 else None


def _by_file(io: IO) -> tuple[str | None, str]:
    for path in FILES:
        try:
            if io.is_file(path):
                return _since_start(_tail(io, path)), path
        except OSError:
            continue
    return None, ""


def _tail(io: IO, path: str) -> str:
    with io.open(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return file.read().decode("utf-8", "replace")


def _since_start(text: str) -> str:
    """A log file holds earlier starts of the machine too; their faults are over."""
    starts = [match.start() for match in STARTED.finditer(text)]
    return text[starts[-1] :] if starts else text


def parsed(text: str, source: str) -> KernelLog:
    xids: dict[tuple[str, int], Xid] = {}
    killed: dict[int, Process] = {}
    unsigned: dict[str, None] = {}
    foreign: dict[str, None] = {}
    refused: dict[str, DmaFault] = {}
    for line in text.splitlines():
        if found := XID.search(line):
            key = (found[1], int(found[2]))
            xids.pop(key, None)
            xids[key] = Xid(key[1], found[1], line.strip()[:LINE])
        elif found := KILLED.search(line):
            pid = int(found[1] or found[4])
            killed[pid] = Process(pid, found[2] or found[3])
        elif found := UNSIGNED.search(line):
            unsigned[found[0][:LINE]] = None
        elif found := FOREIGN.search(line):
            foreign[found[0][:LINE]] = None
        elif found := DMA_FAULT.search(line):
            device = found[1] or found[2] or found[3]
            refused[device] = DmaFault(device, line.strip()[:LINE])
    return KernelLog(
        source,
        tuple(xids.values()),
        tuple(killed.values()),
        tuple(unsigned),
        tuple(foreign),
        tuple(refused.values()),
    )
