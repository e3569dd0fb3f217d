"""Broken machines: each is diagnosed with its root cause, and the machine is left byte for byte as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from machine import LIB, Machine

MODULE = "535.183.01"
OTHER = "550.54.14"


def problems(report: dict, key: Callable[[dict], bool]) -> list[str]:
    return sorted({finding["problem"] for finding in report["findings"] if key(finding)})


def root_causes(report: dict) -> list[str]:
    return problems(report, lambda finding: finding["root_cause"] and finding["status"] in ("fail", "warn"))


def failures(report: dict) -> list[str]:
    return problems(report, lambda finding: finding["status"] == "fail")


def gpu_machine(machine: Machine, version: str = MODULE) -> None:
    """A card, its module, the driver's libraries and a toolkit, all as they should be."""
    machine.card()
    machine.module(version)
    machine.driver_libraries(version)
    machine.default_toolkit(machine.toolkit())
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{LIB}/libcuda.so.1")
    machine.refresh_linker_cache()


def no_driver(machine: Machine) -> None:
    machine.card(driver=None)


def nouveau(machine: Machine) -> None:
    machine.card(driver="nouveau")


def module_not_loaded(machine: Machine) -> None:
    machine.card(driver=None)
    machine.driver_libraries(MODULE)
    machine.default_toolkit(machine.toolkit())
    machine.refresh_linker_cache()


def upgraded_under_module(machine: Machine) -> None:
    gpu_machine(machine, OTHER)
    machine.module(MODULE)


def two_versions(machine: Machine) -> None:
    """The blog's own machine: files of two drivers lie side by side, and the links lead to the wrong one."""
    gpu_machine(machine, OTHER)
    machine.driver_libraries(MODULE, chain=False)
    machine.module(MODULE)


def stray_folder(machine: Machine) -> None:
    gpu_machine(machine)
    machine.driver_libraries(OTHER, folder="/usr/local/old-driver")
    machine.environment["LD_LIBRARY_PATH"] = "/usr/local/old-driver"


def dangling_chain(machine: Machine) -> None:
    gpu_machine(machine)
    machine.link(f"{LIB}/libcuda.so.1", f"libcuda.so.{OTHER}")


def looping_chain(machine: Machine) -> None:
    gpu_machine(machine)
    machine.link(f"{LIB}/libcuda.so.1", "libcuda.so")


def empty_library(machine: Machine) -> None:
    """A zero-byte file is what a container image keeps of a mounted driver."""
    gpu_machine(machine)
    machine.write(f"{LIB}/libcuda.so.{MODULE}", b"")


def library_of_32_bits(machine: Machine) -> None:
    gpu_machine(machine)
    machine.library(f"{LIB}/libcuda.so.{MODULE}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020", bits=32)


def stub_first(machine: Machine) -> None:
    gpu_machine(machine)
    machine.library(
        "/usr/local/cuda-12.2/lib64/stubs/libcuda.so", "libcuda.so.1", "LIB_CUDA", "STUB_LIBRARY", "CU_INIT=34"
    )
    machine.link("/usr/local/cuda-12.2/lib64/stubs/libcuda.so.1", "libcuda.so")
    machine.environment["LD_LIBRARY_PATH"] = "/usr/local/cuda-12.2/lib64/stubs"


def cuda_path_gone(machine: Machine) -> None:
    gpu_machine(machine)
    take_toolkit_away(machine)


def take_toolkit_away(machine: Machine) -> None:
    """The variable still names a toolkit that was removed, and no other is in its place."""
    machine._upper("/usr/local/cuda").unlink()
    machine.environment["CUDA_PATH"] = "/usr/local/cuda-11.7"


def cuda_link_dangles(machine: Machine) -> None:
    gpu_machine(machine)
    machine.default_toolkit("cuda-11.7")


def no_nvml(machine: Machine) -> None:
    gpu_machine(machine)
    for name in (f"libnvidia-ml.so.{MODULE}", "libnvidia-ml.so.1"):
        machine._upper(f"{LIB}/{name}").unlink()
    machine.refresh_linker_cache()


def closed_nodes(machine: Machine) -> None:
    gpu_machine(machine)
    machine.nodes["nvidiactl"] = (0o600, 195, 255)
    machine.nodes["nvidia0"] = (0o600, 195, 0)


def no_uvm(machine: Machine) -> None:
    gpu_machine(machine)
    machine.files["module"].pop("nvidia_uvm/initstate")
    machine.nodes.pop("nvidia-uvm")


def no_toolkit_libraries(machine: Machine) -> None:
    """Driver and card are fine, but nothing that cpm_kernels looks for beside libcuda is there."""
    machine.card()
    machine.module(MODULE)
    machine.driver_libraries(MODULE)
    machine.refresh_linker_cache()


def card_not_well(*health: str) -> Callable[[Machine], None]:
    """NVML answers, and says what is wrong with the card; the kernel's log is empty."""

    def build(machine: Machine) -> None:
        gpu_machine(machine)
        machine.driver_libraries(MODULE, health=health)
        machine.write("/usr/bin/dmesg", "#!/bin/sh\n", 0o755)

    build.__name__ = "_".join(health).lower()
    return build


def card_off_the_bus(machine: Machine) -> None:
    gpu_machine(machine)
    line = "[ 9.0] NVRM: Xid (PCI:0000:01:00): 79, pid=77, GPU has fallen off the bus."
    machine.write("/usr/bin/dmesg", f"#!/bin/sh\necho '{line}'\n", 0o755)


MACHINES = {
    card_off_the_bus: "gpu-lost",
    card_not_well("REMAP_FAILED=1", "UNCORRECTED=3"): "gpu-xid-fault",
    card_not_well("SLOWED_BY=0x40"): "gpu-lost",
    card_not_well("LINK_WIDTH=4"): "gpu-lost",
    card_not_well("MIG=1"): "no-cuda-gpu-visible",
    card_not_well("FABRIC_STATE=2"): "cuda-system-not-ready",
    no_driver: "no-nvidia-driver",
    nouveau: "nouveau-in-the-way",
    module_not_loaded: "driver-not-loaded",
    upgraded_under_module: "driver-library-mismatch",
    two_versions: "driver-library-mismatch",
    stray_folder: "driver-library-mismatch",
    dangling_chain: "libcuda-link-broken",
    looping_chain: "libcuda-link-broken",
    empty_library: "libcuda-link-broken",
    library_of_32_bits: "libcuda-link-broken",
    stub_first: "libcuda-stub-loaded",
    cuda_path_gone: "cuda-path-wrong",
    cuda_link_dangles: "cuda-path-wrong",
    no_nvml: "nvml-not-found",
    no_uvm: "cuda-unknown-error-999",
    no_toolkit_libraries: "cpm-toolkit-libs-missing",
}


def listing(machine: Machine) -> str:
    return machine.run("ls", "-ln", "--time-style=+", "/dev").stdout


@pytest.mark.parametrize("build", MACHINES, ids=lambda build: build.__name__)
def test_root_cause_comes_first(machine: Machine, build: Callable[[Machine], None]) -> None:
    build(machine)
    before, nodes = machine.tree(), listing(machine)
    report = machine.check()
    assert root_causes(report) == [MACHINES[build]], [f for f in report["findings"] if f["status"] == "fail"]
    assert report["findings"][0]["root_cause"]
    assert machine.tree() == before
    assert listing(machine) == nodes


def test_closed_device_nodes_are_seen_by_a_plain_user(machine: Machine, plain_user: int) -> None:
    closed_nodes(machine)
    assert root_causes(machine.check(user=plain_user)) == ["device-node-permission"]


def test_healthy_machine_without_a_card_is_fit_for_the_cpu(machine: Machine) -> None:
    report = machine.check()
    assert failures(report) == [] and report["summary"]["crashed"] == 0
    assert report["verdict"] == "healthy", problems(report, lambda finding: finding["status"] == "warn")


def test_healthy_machine_with_a_card(machine: Machine) -> None:
    gpu_machine(machine)
    report = machine.check()
    assert failures(report) == [], [f for f in report["findings"] if f["status"] == "fail"]


def test_a_healthy_cards_readings_are_told(machine: Machine) -> None:
    card_not_well("HOLDER=1", "LINK_GENERATION=3", "STATE=0")(machine)
    report = machine.check()
    assert failures(report) == []
    [gpu] = report["host"]["nvml"]["gpus"]
    assert gpu["link"]["width"] == gpu["link"]["width_max"] == 16 and gpu["processes"][0]["memory"] == 6 << 30
    assert {f["id"]: f["status"] for f in report["findings"]}["gpu.faults"] == "ok"


def test_toolkit_without_driver_and_card_is_healthy(machine: Machine) -> None:
    machine.default_toolkit(machine.toolkit())
    assert failures(machine.check()) == []


@pytest.mark.parametrize("build, case", [(upgraded_under_module, "upgraded-under-module"), (two_versions, "two-versions"), (stray_folder, "stray-folder")])  # fmt: skip
def test_three_mismatches_are_told_apart(machine: Machine, build: Callable[[Machine], None], case: str) -> None:
    build(machine)
    [finding] = [f for f in machine.check()["findings"] if f["problem"] == "driver-library-mismatch"]
    assert finding["evidence"]["case"] == case
    told = finding["detail"] + " ".join(r["title"] + " ".join(r["commands"]) for r in finding["remedies"])
    assert ("no reboot" in told) == (case == "stray-folder")


def test_missing_compiler_is_a_warning_without_a_model(machine: Machine) -> None:
    machine.remove_compilers()
    report = machine.check()
    assert "gcc-missing" in problems(report, lambda finding: finding["status"] in ("warn", "fail"))


def test_two_independent_problems_are_two_root_causes(machine: Machine) -> None:
    no_uvm(machine)
    take_toolkit_away(machine)
    assert root_causes(machine.check()) == ["cuda-path-wrong", "cuda-unknown-error-999"]
