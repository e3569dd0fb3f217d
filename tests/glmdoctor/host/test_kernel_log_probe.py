"""The kernel's log: which lines count, where it is read from, and when it is not read at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glmdoctor.host.facts import KernelDriver, KernelLog, PciDisplay, Process, Unknown, Xid
from glmdoctor.host.io import Result
from glmdoctor.host.probes.driver import kernel_driver
from glmdoctor.host.probes.kernel_log import kernel_log, parsed
from glmdoctor.host.recorded import RecordedIO

LOADED = KernelDriver(True, "535.183.01", "/proc/driver/nvidia/version", False, False, (), (), ())
LOG = """[    0.000000] Linux version 6.1.0
[   12.100000] NVRM: Xid (PCI:0000:01:00): 31, pid=1200, name=python, Ch 00000008, intr 00000000. MMU Fault
[   13.100000] NVRM: Xid (PCI:0000:01:00): 31, pid=1300, name=python, again
[   99.000000] NVRM: Xid (0000:02:00): 79, GPU has fallen off the bus.
[  120.000000] Out of memory: Killed process 4242 (python3) total-vm:16384000kB, anon-rss:1kB
[  121.000000] Xid is a word
"""


def test_each_cards_and_numbers_last_line():
    io = RecordedIO({}, answers={("dmesg", "--syslog"): Result(0, LOG, "")})
    found = kernel_log(io, LOADED)
    assert isinstance(found, KernelLog) and found.source == "dmesg"
    assert [(x.number, x.pci) for x in found.xids] == [(31, "0000:01:00"), (79, "0000:02:00")]
    assert found.xids[0].line.endswith("again")
    assert found.killed == (Process(4242, "python3"),)


def test_a_file_where_dmesg_is_not_allowed_and_only_since_the_last_start():
    file = "Nov 20 host kernel: [ 1.0] Linux version 6.1.0\nkernel: NVRM: Xid (PCI:0000:01:00): 79, lost\n" * 2
    file += "Nov 21 host kernel: [ 0.0] Linux version 6.1.0\nkernel: NVRM: Xid (PCI:0000:01:00): 48, x\n"
    io = RecordedIO({"/var/log/kern.log": file}, answers={("dmesg", "--syslog"): Result(1, "", "not permitted")})
    found = kernel_log(io, LOADED)
    assert isinstance(found, KernelLog) and found.source == "/var/log/kern.log"
    assert found.xids == (Xid(48, "0000:01:00", "kernel: NVRM: Xid (PCI:0000:01:00): 48, x"),)


def test_not_read_without_the_module_and_unknown_where_it_may_not_be():
    io = RecordedIO({}, answers={("dmesg", "--syslog"): Result(0, LOG, "")})
    assert isinstance(kernel_log(io, replace(LOADED, loaded=False)), Unknown)
    assert isinstance(kernel_log(RecordedIO({}), LOADED), Unknown)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("PKCS#7: Loading of module with unavailable key is rejected", "unsigned"),
        ("Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7", "unsigned"),
        ("(udev-worker)[88]: Failed to insert module 'nvidia': Key was rejected by service", "unsigned"),
        ("nvidia: version magic '6.1.0-17-amd64 SMP ' should be '6.1.0-18-amd64 SMP '", "foreign"),
        ("nvidia: disagrees about version of symbol module_layout", "foreign"),
        ("modprobe: ERROR: could not insert 'nvidia_current': Exec format error", "foreign"),
        ("vboxdrv: version magic '6.1.0-17' should be '6.1.0-18'", None),
        ("nvidia: module verification failed: signature and/or required key missing - tainting kernel", None),
        ("Lockdown: systemd-logind: hibernation is restricted; see man kernel_lockdown.7", None),
    ],
)
def test_why_the_module_was_refused(line: str, kind: str | None):
    found = parsed(f"[ 4.2] {line}\n", "dmesg")
    assert {name for name in ("unsigned", "foreign") if getattr(found, name)} == ({kind} if kind else set())
    assert not found.xids and not found.killed


def test_read_without_the_module_where_there_is_a_card():
    io = RecordedIO({}, answers={("dmesg", "--syslog"): Result(0, LOG, "")})
    unloaded = replace(LOADED, loaded=False)
    assert isinstance(kernel_log(io, unloaded, (PciDisplay("0000:01:00.0", "10de", "1bb3", "0302", None),)), KernelLog)
    assert isinstance(kernel_log(io, unloaded, (PciDisplay("0000:00:02.0", "8086", "1bb3", "0300", None),)), Unknown)


def test_the_fabric_manager_matters_where_there_is_nvswitch():
    files = {"/dev/nvidiactl": "", "/proc/sys/kernel/osrelease": "6.1"}
    assert kernel_driver(RecordedIO(files)).fabric_manager is None
    switch = {**files, "/dev/nvidia-nvswitch0": "", "/proc/812/comm": "nv-fabricmanage\n", "/proc/9/comm": "bash\n"}
    assert kernel_driver(RecordedIO(switch)).fabric_manager is True
    del switch["/proc/812/comm"]
    assert kernel_driver(RecordedIO(switch)).fabric_manager is False


@pytest.mark.parametrize(
    ("line", "device"),
    [
        (
            "nvidia 0000:41:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x23 address=0xf0 flags=0x20]",
            "0000:41:00.0",
        ),
        ("AMD-Vi: Event logged [IO_PAGE_FAULT device=41:00.0 domain=0x23 address=0xf0 flags=0x20]", "41:00.0"),
        ("DMAR: [DMA Write NO_PASID] Request device [65:00.0] fault addr 0xfc00 [fault reason 0x05]", "65:00.0"),
        ("DMAR: [DMA Read] Request device [01:00.0] fault addr 0x0", "01:00.0"),
    ],
)
def test_accesses_that_the_iommu_refused(line: str, device: str) -> None:
    found = parsed(f"[ 1.0] {line}\n[ 2.0] {line}\n", "dmesg").dma_faults
    assert [(fault.pci, fault.line) for fault in found] == [(device, f"[ 2.0] {line}")]
