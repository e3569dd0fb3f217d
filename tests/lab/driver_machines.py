"""Machines whose card, kernel module, device nodes or NVML are not as they should be."""

from __future__ import annotations

from collections.abc import Callable

from case import Case
from machine import LIB, Machine

MODULE = "535.183.01"
OTHER = "550.54.14"


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


def driver_without_card(machine: Machine) -> None:
    """An image made for GPU machines, started on one without."""
    machine.driver_libraries(MODULE)
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


def closed_nodes(machine: Machine) -> None:
    gpu_machine(machine)
    machine.nodes["nvidiactl"] = (0o600, 195, 255)
    machine.nodes["nvidia0"] = (0o600, 195, 0)


def file_for_a_node(machine: Machine) -> None:
    """A redirection to a device that was not there yet leaves a plain file of its name."""
    gpu_machine(machine)
    machine.nodes.pop("nvidia0")
    machine.plain_files_in_dev.append("nvidia0")


def no_uvm(machine: Machine) -> None:
    gpu_machine(machine)
    machine.files["module"].pop("nvidia_uvm/initstate")
    machine.nodes.pop("nvidia-uvm")


def no_nvml(machine: Machine) -> None:
    gpu_machine(machine)
    for name in (f"libnvidia-ml.so.{MODULE}", "libnvidia-ml.so.1"):
        machine.discard(f"{LIB}/{name}")
    machine.refresh_linker_cache()


def nvml_answers(code: int, what: str) -> Callable[[Machine], None]:
    def build(machine: Machine) -> None:
        gpu_machine(machine)
        machine.driver_libraries(MODULE, nvml_code=code)

    build.__name__ = f"nvml_answers_{code}_{what}"
    return build


def container_lost_card(machine: Machine) -> None:
    """A reload of systemd on the host took the devices out of the container's cgroup."""
    nvml_answers(999, "")(machine)
    machine.files["run"][".containerenv"] = 'engine="podman-4.3.1"\n'


def hidden_cards(machine: Machine) -> None:
    gpu_machine(machine)
    machine.environment["CUDA_VISIBLE_DEVICES"] = "-1"


def card_number_beyond(machine: Machine) -> None:
    gpu_machine(machine)
    machine.environment["CUDA_VISIBLE_DEVICES"] = "1"


def card_not_well(*health: str) -> Callable[[Machine], None]:
    """NVML answers, and says what is wrong with the card; the kernel's log is empty."""

    def build(machine: Machine) -> None:
        gpu_machine(machine)
        machine.driver_libraries(MODULE, health=health)
        machine.write("/usr/bin/dmesg", "#!/bin/sh\n", 0o755)

    build.__name__ = "_".join(health).lower()
    return build


def card_off_the_bus(machine: Machine) -> None:
    kernel_says(machine, "NVRM: Xid (PCI:0000:01:00): 79, pid=77, GPU has fallen off the bus.")


def double_bit_error(machine: Machine) -> None:
    kernel_says(machine, "NVRM: Xid (PCI:0000:01:00): 48, pid=77, An uncorrectable double bit error was detected.")


def fault_of_a_program(machine: Machine) -> None:
    kernel_says(machine, "NVRM: Xid (PCI:0000:01:00): 31, pid=77, name=python3, MMU Fault")


def kernel_says(machine: Machine, line: str) -> None:
    gpu_machine(machine)
    machine.write("/usr/bin/dmesg", f"#!/bin/sh\necho '[ 9.0] {line}'\n", 0o755)


WSL = "5.15.167.4-microsoft-standard-WSL2"


def wsl_without_card(machine: Machine) -> None:
    machine.release = WSL


def wsl_with_card(machine: Machine) -> None:
    """As Windows' driver lays it: no links, no module, one device node; NVML and libcuda in a folder of their own."""
    machine.release = WSL
    machine.nodes["dxg"] = (0o666, 10, 125)
    for name in ("libcuda.so", "libcuda.so.1", "libcuda.so.1.1"):
        machine.library(f"/usr/lib/wsl/lib/{name}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020")
    answers = ("LIB_NVML", "NVML_CODE=0", f'DRIVER_VERSION="{MODULE}"', "GPUS=1")
    machine.library("/usr/lib/wsl/lib/libnvidia-ml.so.1", "libnvidia-ml.so.1", *answers)
    machine.write("/etc/ld.so.conf.d/ld.wsl.conf", "/usr/lib/wsl/lib\n")
    toolkit = machine.toolkit()
    machine.default_toolkit(toolkit)
    machine.link(f"{toolkit}/lib64/libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1")
    machine.refresh_linker_cache()


CASES = (
    Case(no_driver, {"driver.module": "no-nvidia-driver"}),
    Case(nouveau, {"driver.module": "nouveau-in-the-way"}),
    Case(module_not_loaded, {"driver.module": "driver-not-loaded"}),
    Case(driver_without_card, {"driver.card": "no-gpu-hardware"}),
    Case(upgraded_under_module, {"driver.version": "driver-library-mismatch"}),
    Case(two_versions, {"driver.version": "driver-library-mismatch"}),
    Case(stray_folder, {"driver.version": "driver-library-mismatch"}),
    Case(closed_nodes, {"driver.nodes": "device-node-permission"}, as_user=True),
    Case(file_for_a_node, {"driver.nodes": "cuda-init-os-error"}),
    Case(no_uvm, {"driver.uvm": "cuda-unknown-error-999"}),
    Case(no_nvml, {"driver.nvml": "nvml-not-found"}),
    Case(nvml_answers(4, "permission"), {"driver.nvml": "device-node-permission"}),
    Case(nvml_answers(15, "lost"), {"driver.nvml": "gpu-lost"}),
    Case(nvml_answers(18, "mismatch"), {"driver.version": "driver-library-mismatch"}),
    Case(container_lost_card, {"driver.nvml": "container-lost-gpu"}),
    Case(hidden_cards, {"driver.visible": "no-cuda-gpu-visible"}),
    Case(card_number_beyond, {"driver.visible": "invalid-device-ordinal"}),
    Case(card_off_the_bus, {"gpu.faults": "gpu-lost"}),
    Case(double_bit_error, {"gpu.faults": "gpu-xid-fault"}),
    Case(fault_of_a_program, clears=("gpu.faults",)),
    Case(card_not_well("REMAP_FAILED=1", "UNCORRECTED=3"), {"gpu.faults": "gpu-xid-fault"}),
    Case(card_not_well("SLOWED_BY=0x40"), {"gpu.clocks": "gpu-lost"}),
    Case(card_not_well("LINK_WIDTH=4"), {"gpu.link": "gpu-lost"}),
    Case(card_not_well("MIG=1"), {"gpu.modes": "no-cuda-gpu-visible"}),
    Case(card_not_well("MIG=1", "MIG_INSTANCES=2"), clears=("gpu.modes",)),
    Case(card_not_well("FABRIC_STATE=2"), {"gpu.fabric": "cuda-system-not-ready"}),
    Case(card_not_well("FABRIC_STATE=3"), clears=("gpu.fabric",)),
    Case(wsl_without_card, {"wsl.adapter": "wsl-no-adapter"}),
    Case(wsl_with_card, clears=("wsl.adapter", "driver.nvml", "cuda.libcuda-chain", "cuda.libcuda-load")),
    Case(
        gpu_machine,
        clears=(
            *("driver.card", "driver.module", "driver.nodes", "driver.uvm", "driver.nvml", "driver.visible"),
            *("driver.version", "gpu.faults", "gpu.clocks", "gpu.link", "gpu.modes"),
        ),
    ),
)
