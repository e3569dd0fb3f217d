"""Accelerators of other makers on recorded machines: seen, named, and told what glmcore can do with each."""

from __future__ import annotations

import pytest
from synthetic import Stub, loader_for

from glmdoctor.checks import examine
from glmdoctor.findings import Status
from glmdoctor.host.facts import Loader, PciDisplay, Unknown
from glmdoctor.host.probes.accelerators import accelerators
from glmdoctor.host.recorded import RecordedIO

LOADER: Loader = loader_for()


def card(vendor: str, address: str = "0000:03:00.0", device_class: str = "0300", driver: str = "") -> PciDisplay:
    return PciDisplay(address, vendor, "1234", device_class, driver or None)


@pytest.mark.parametrize(
    ("files", "pci", "kind", "words"),
    [
        ({"/dev/kfd": "", "/opt/rocm/bin/x": ""}, (card("1002", driver="amdgpu"),), "amd", "/dev/kfd"),
        ({"/dev/dri/renderD128": ""}, (card("8086"),), "intel", "runtime was not found"),
        ({"/dev/davinci0": "", "/dev/davinci_manager": ""}, (), "ascend", "/dev/davinci0"),
        ({"/dev/gp0": "", "/dev/gp1": "", "/dev/gpiochip0": "", "/sys/module/hxdrv/x": ""}, (), "hexaflake",
         "/dev/gp0, /dev/gp1"),
    ],
)  # fmt: skip
def test_each_kind(cpu_machine: Stub, files: dict, pci: tuple, kind: str, words: str) -> None:
    found = accelerators(RecordedIO(files), pci, LOADER)
    [finding] = examine(cpu_machine.having(accelerators=found), only=["accelerators.seen"]).findings
    assert finding.status is Status.OK and finding.evidence["kind"] == kind
    assert words in str(finding.detail) and finding.detail.render("zh") != str(finding.detail)


def test_graphics_inside_the_processor_and_nvidia_are_no_other_accelerator(cpu_machine: Stub) -> None:
    pci = (card("8086", "0000:00:02.0"), card("10de"))
    assert accelerators(RecordedIO({"/dev/gpiochip0": "", "/dev/gp": ""}), pci, LOADER) == ()
    [finding] = examine(cpu_machine.having(accelerators=()), only=["accelerators.seen"]).findings
    assert "None" in str(finding.detail)


def test_level_zero_is_found_where_the_loader_looks() -> None:
    path = "/usr/lib/x86_64-linux-gnu/libze_loader.so.1"
    [found] = accelerators(RecordedIO({path: ""}), (card("8086", device_class="1200"),), LOADER)
    assert found.runtime == path


def test_torch_for_rocm_is_named(cpu_machine: Stub) -> None:
    found = accelerators(RecordedIO({"/dev/kfd": ""}), (card("1002"),), LOADER)
    machine = cpu_machine.having(accelerators=found, torch={"hip": "6.2"})
    [finding] = examine(machine, only=["accelerators.seen"]).findings
    assert "ROCm 6.2" in str(finding.detail)


def test_apple_and_windows() -> None:
    [apple] = accelerators(RecordedIO({}, system="Darwin", machine="arm64"), Unknown("no bus"), LOADER)
    assert apple.kind == "apple"
    assert accelerators(RecordedIO({}, system="Darwin", machine="x86_64"), Unknown("no bus"), LOADER) == ()
    assert isinstance(accelerators(RecordedIO({}, system="Windows"), (), LOADER), Unknown)
