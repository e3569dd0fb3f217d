"""The cards' health by NVML's readings and the kernel's log: each fault on a card that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import Stub

from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts
from glmdoctor.host.facts import GpuLink, GpuMemoryFaults, Unknown, Xid
from glmdoctor.readings.xids import kind, place

FULL = GpuLink(1, 3, 16, 16)  # at rest
WELL = {
    "performance_state": 8, "temperature": 41, "slowed_by": (), "link": FULL,
    "memory_faults": GpuMemoryFaults(0, 0), "persistence": True, "mig": False,
}  # fmt: skip


def having(machine: Stub, *xids: Xid, **card: Any) -> Stub:
    gpu = replace(machine.nvml.gpus[0], **{**WELL, **card})
    return machine.having(nvml={"gpus": (gpu,)}, kernel_log=facts.KernelLog("dmesg", xids))


def finding(machine: Stub, check: str) -> Finding:
    [found] = examine(machine, only=[check]).findings
    return found


def xid(number: int) -> Xid:
    return Xid(number, "0000:01:00", f"NVRM: Xid (PCI:0000:01:00): {number}, pid=77")


def test_a_card_that_is_well(gpu_machine: Stub) -> None:
    machine = having(gpu_machine)
    found = [f for f in examine(machine).findings if f.id.startswith("gpu.")]
    assert not [f for f in found if f.bad]
    assert {f.id for f in found if f.status is Status.OK} >= {
        *("gpu.memory", "gpu.faults", "gpu.clocks", "gpu.link", "gpu.modes")
    }


@pytest.mark.parametrize(
    ("faults", "status", "words"),
    [
        (GpuMemoryFaults(0, 12), Status.OK, "No uncorrectable"),  # long ago; the row was taken out
        (GpuMemoryFaults(2, 12), Status.WARN, "2 since the start, 12"),
        (GpuMemoryFaults(0, 1, remap_pending=True), Status.WARN, "reset the card"),
        (GpuMemoryFaults(0, 9, remap_failed=True), Status.FAIL, "exchanged"),
    ],
)
def test_memory_faults(gpu_machine: Stub, faults: GpuMemoryFaults, status: Status, words: str) -> None:
    found = finding(having(gpu_machine, memory_faults=faults), "gpu.memory")
    assert (found.status, found.problem) == (status, "gpu-ecc-errors" if status is not Status.OK else None)
    assert words in str(found.detail)


@pytest.mark.parametrize(
    ("number", "problem", "status"),
    [(31, None, Status.OK), (13, None, Status.OK), (74, "gpu-xid-fault", Status.WARN), (79, "gpu-lost", Status.FAIL),
     (119, "gpu-xid-fault", Status.WARN), (999, "gpu-xid-fault", Status.WARN)],
)  # fmt: skip
def test_xids_by_their_number(gpu_machine: Stub, number: int, problem: str | None, status: Status) -> None:
    found = finding(having(gpu_machine, xid(number)), "gpu.faults")
    assert (found.problem, found.status) == (problem, status)
    assert str(number) in str(found.detail)


ERRORS = GpuMemoryFaults(2, 12)


def test_a_memorys_errors_and_their_xid_are_one_finding(gpu_machine: Stub) -> None:
    machine = having(gpu_machine, xid(48), memory_faults=ERRORS, pci="00000000:01:00.0")
    [found] = [f for f in examine(machine).findings if f.bad]
    assert found.problem == "gpu-ecc-errors" and found.evidence["xids"][0]["number"] == 48


def test_a_memory_xid_counts_where_nvml_counts_nothing(gpu_machine: Stub) -> None:
    machine = having(gpu_machine, xid(48), memory_faults=None)
    [found] = [f for f in examine(machine).findings if f.bad]
    assert (found.id, found.problem) == ("gpu.memory", "gpu-ecc-errors") and "Xid 48" in str(found.detail)


@pytest.mark.parametrize(
    ("reading", "cause"),
    [
        ({"slowed_by": ("hw-thermal",)}, "gpu-throttled"),
        ({"memory_faults": ERRORS}, "gpu-ecc-errors"),
        ({"slowed_by": ("power-cap",)}, None),
    ],
)
def test_heat_and_bad_memory_explain_the_faults_of_their_own_card(
    gpu_machine: Stub, reading: dict[str, Any], cause: str | None
) -> None:
    machine = having(gpu_machine, xid(62), pci="00000000:01:00.0", **reading)
    assert {f.problem for f in examine(machine).root_causes} == {cause or "gpu-xid-fault"}
    other = having(gpu_machine, xid(62), pci="00000000:02:00.0", **reading)
    assert {f.problem for f in examine(other).root_causes} == {"gpu-xid-fault", *filter(None, [cause])}


def test_addresses_of_log_and_nvml_agree() -> None:
    assert {place(name) for name in ("00000000:01:00.0", "0000:01:00", "01:00")} == {"0000:01:00"}
    assert (place("00010000:0A:00.0"), place("odd"), place("")) == ("0000:0a:00", "", "")


def test_an_xid_is_shown_where_nvml_no_longer_lists_the_card(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(nvml={"code": 15, "gpus": ()}, kernel_log=facts.KernelLog("dmesg", (xid(79),)))
    assert {f.problem for f in examine(machine).root_causes} == {"gpu-lost"}


def test_without_the_log_the_cards_are_judged_all_the_same(gpu_machine: Stub) -> None:
    machine = having(gpu_machine).having(kernel_log=Unknown("this user may not read the kernel's log"))
    assert "cannot be read" in str(finding(machine, "gpu.faults").detail)


def test_heat_is_told_from_the_power_cap_that_every_busy_card_meets(gpu_machine: Stub) -> None:
    assert finding(having(gpu_machine, slowed_by=("power-cap",)), "gpu.clocks").status is Status.OK
    hot = finding(having(gpu_machine, slowed_by=("hw-slowdown", "hw-thermal"), temperature=96), "gpu.clocks")
    assert (hot.status, hot.problem) == (Status.WARN, "gpu-throttled")
    assert "heat" in str(hot.detail) and "96 °C" in str(hot.detail)


@pytest.mark.parametrize(
    ("link", "state", "slow"),
    [
        (FULL, 8, False),
        (FULL, 0, True),  # works, and is still of the first generation
        (GpuLink(3, 3, 4, 16), 8, True),
        (GpuLink(3, 3, 16, 16), 0, False),
        (GpuLink(1, 3, 16, 16), None, False),  # the state is not told: it may be at rest
    ],
)
def test_the_link_is_judged_by_width_and_under_load_by_generation(
    gpu_machine: Stub, link: GpuLink, state: int | None, slow: bool
) -> None:
    found = finding(having(gpu_machine, link=link, performance_state=state), "gpu.link")
    assert (found.problem == "pcie-link-narrow") == slow == (found.status is Status.WARN)


@pytest.mark.parametrize(
    ("card", "driver", "problem"),
    [
        ({}, None, None),
        ({"fabric": "completed"}, True, None),
        ({"fabric": "in-progress"}, True, "cuda-system-not-ready"),
        ({}, False, "cuda-system-not-ready"),  # an A100: the fabric is not told, NVSwitch nodes without its manager
        ({}, True, None),
    ],
)
def test_the_fabric(gpu_machine: Stub, card: dict[str, Any], driver: bool | None, problem: str | None) -> None:
    machine = having(gpu_machine, **card).having(kernel_driver={"fabric_manager": driver})
    assert finding(machine, "gpu.fabric").problem == problem


def test_in_a_container_the_fabric_manager_is_out_of_sight(gpu_machine: Stub) -> None:
    machine = having(gpu_machine).having(kernel_driver={"fabric_manager": False}, os={"container": "docker"})
    assert not finding(machine, "gpu.fabric").bad


def test_mig_without_instances_hides_the_card(gpu_machine: Stub) -> None:
    assert finding(having(gpu_machine, mig=True), "gpu.modes").problem == "no-cuda-gpu-visible"
    assert not finding(having(gpu_machine, mig=True, mig_instances=2), "gpu.modes").bad


def test_kinds_come_from_the_table() -> None:
    assert [kind(n) for n in (31, 61, 48, 79, 5)] == ["program", "driver", "memory", "lost", "unknown"]


@pytest.mark.parametrize(
    ("mode", "held", "status", "words"),
    [
        ("default", True, Status.OK, "Nothing in the way"),
        ("exclusive-process", False, Status.OK, "one process alone"),
        ("exclusive-process", True, Status.FAIL, "99 python3"),
        ("prohibited", False, Status.FAIL, "prohibited"),
        (None, True, Status.OK, "Nothing in the way"),  # a driver that does not tell
    ],
)
def test_the_compute_mode(gpu_machine: Stub, mode: str | None, held: bool, status: Status, words: str) -> None:
    holders = (facts.GpuProcess(99, "python3", 6 << 30),) if held else ()
    found = finding(having(gpu_machine, compute_mode=mode, processes=holders), "gpu.modes")
    assert (found.status, found.problem) == (
        status,
        "gpu-exclusive-compute-mode" if status is Status.FAIL else None,
    )
    assert words in str(found.detail)


REFUSED = facts.DmaFault("0000:41:00.0", "nvidia 0000:41:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x23]")


@pytest.mark.parametrize(
    ("cards", "faults", "status"),
    [
        (("01", "41"), (REFUSED,), Status.WARN),
        (("01", "41"), (), Status.OK),
        (("01", "41"), (facts.DmaFault("0000:05:00.0", "a network card"),), Status.OK),
        (("41",), (REFUSED,), Status.SKIPPED),
    ],
)
def test_copies_between_cards_that_the_iommu_refuses(
    gpu_machine: Stub, cards: tuple[str, ...], faults: tuple[facts.DmaFault, ...], status: Status
) -> None:
    pci = tuple(facts.PciDisplay(f"0000:{bus}:00.0", "10de", "2684", "0300", "nvidia") for bus in cards)
    machine = gpu_machine.having(pci=pci, kernel_log=facts.KernelLog("dmesg", (), dma_faults=faults))
    found = finding(machine, "gpu.peers")
    assert (found.status, found.problem) == (status, "p2p-hang" if status is Status.WARN else None)
