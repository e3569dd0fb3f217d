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


KERNEL, FORMER = "6.1.0-18-amd64", "6.1.0-17-amd64"


def module_of_another_kernel(machine: Machine) -> None:
    """The kernel was upgraded, and its headers were not there when DKMS wanted to build the module."""
    module_not_loaded(machine)
    machine.release = KERNEL
    machine.write(f"/usr/lib/modules/{FORMER}/updates/dkms/nvidia.ko", b"\x7fELF")


def module_with_an_unknown_signature(machine: Machine) -> None:
    module_not_loaded(machine)
    machine.release = KERNEL
    machine.write(f"/usr/lib/modules/{KERNEL}/updates/dkms/nvidia.ko.zst", b"\x28\xb5\x2f\xfd")
    machine.files["module"]["module/parameters/sig_enforce"] = "Y\n"
    line = "Loading of module with unavailable key is rejected"
    machine.write("/usr/bin/dmesg", f"#!/bin/sh\necho '[ 4.2] {line}'\n", 0o755)


def module_for_this_kernel_not_loaded(machine: Machine) -> None:
    """It was built for both kernels; nobody has loaded it yet."""
    module_of_another_kernel(machine)
    machine.write(f"/usr/lib/modules/{KERNEL}/updates/dkms/nvidia.ko", b"\x7fELF")


PODMAN = 'engine="podman-4.3.1"\n'


def container_without_card(machine: Machine) -> None:
    """Started without --gpus on a host whose driver works: /proc and /sys show it, the nodes are not there."""
    machine.card()
    machine.module(MODULE)
    machine.nodes.clear()
    machine.files["run"][".containerenv"] = PODMAN


def container_that_asks_for_a_card(machine: Machine) -> None:
    """An image of CUDA, which sets the variable, started without --gpus."""
    container_without_card(machine)
    machine.environment["NVIDIA_VISIBLE_DEVICES"] = "all"


def container_with_several_cards(size: str) -> Callable[[Machine], None]:
    def build(machine: Machine) -> None:
        gpu_machine(machine)
        machine.driver_libraries(MODULE, cards=2)
        machine.files["run"][".containerenv"] = PODMAN
        machine.steps.append(("mount", "-t", "tmpfs", "-o", f"size={size}", "lab", "/dev/shm"))

    build.__name__ = f"container_with_several_cards_and_{size}"
    return build


def container_that_wants_none(machine: Machine) -> None:
    container_without_card(machine)
    machine.environment["NVIDIA_VISIBLE_DEVICES"] = "void"


def container_with_card(machine: Machine) -> None:
    gpu_machine(machine)
    machine.files["run"][".containerenv"] = PODMAN


def nvrtc_newer_than_the_driver(machine: Machine) -> None:
    """A driver for CUDA 12.2 with a toolkit of 12.8: one major release, and its PTX is not understood."""
    gpu_machine(machine)
    machine.default_toolkit(machine.toolkit("12.8"))
    machine.link("/usr/local/cuda-12.8/lib64/libcuda.so", f"{LIB}/libcuda.so.1")


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
    machine.files["run"][".containerenv"] = PODMAN


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


def firmware_of_the_card_hangs(machine: Machine) -> None:
    kernel_says(machine, "NVRM: Xid (PCI:0000:01:00): 119, pid=77, Timeout waiting for RPC from GSP!")


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


def wsl_without_device(machine: Machine) -> None:
    wsl_with_card(machine)
    machine.nodes.pop("dxg")


def wsl_lost_card(machine: Machine) -> None:
    wsl_with_card(machine)
    answers = ("LIB_NVML", "NVML_CODE=15", f'DRIVER_VERSION="{MODULE}"', "GPUS=1")
    machine.library("/usr/lib/wsl/lib/libnvidia-ml.so.1", "libnvidia-ml.so.1", *answers)


def wsl_with_linux_driver(machine: Machine) -> None:
    """Somebody installed a driver inside WSL, whose folder comes first."""
    wsl_with_card(machine)
    machine.library("/usr/local/nvidia/lib64/libcuda.so.535.183.01", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020")
    machine.link("/usr/local/nvidia/lib64/libcuda.so.1", "libcuda.so.535.183.01")
    machine.write("/etc/ld.so.conf.d/00-nvidia.conf", "/usr/local/nvidia/lib64\n")
    machine.refresh_linker_cache()


def wsl_with_half_of_an_update(machine: Machine) -> None:
    wsl_with_card(machine)
    newer = "/usr/lib/wsl/lib/libcuda.so.1.1"
    machine.write(newer, machine._upper(newer).read_bytes() + bytes(4096), 0o755)


CASES = (
    Case(module_of_another_kernel, {"driver.module": "kernel-module-mismatch"}),
    Case(module_with_an_unknown_signature, {"driver.module": "secure-boot-module-rejected"}),
    Case(module_for_this_kernel_not_loaded, {"driver.module": "driver-not-loaded"}),
    Case(container_without_card, {"driver.containers": "docker-no-gpu-runtime"}),
    Case(container_that_asks_for_a_card, {"driver.containers": "docker-no-gpu-runtime"}),
    Case(container_with_several_cards("64m"), {"system.shared-memory": "docker-shm-too-small"}),
    Case(container_with_several_cards("1g"), clears=("system.shared-memory",)),
    Case(container_that_wants_none, clears=("driver.containers",)),
    Case(container_with_card, clears=("driver.containers",)),
    Case(nvrtc_newer_than_the_driver, {"cpm.ptx": "ptx-newer-than-driver"}),
    Case(firmware_of_the_card_hangs, {"gpu.faults": "gpu-xid-fault"}),
    Case(wsl_without_device, {"wsl.adapter": "wsl-gpu-lost"}),
    Case(wsl_lost_card, {"driver.nvml": "wsl-gpu-lost"}),
    Case(wsl_with_linux_driver, {"wsl.libcuda": "wsl-libcuda-shadowed"}),
    Case(wsl_with_half_of_an_update, {"wsl.libcuda": "wsl-libcuda-symlink"}),
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
    Case(double_bit_error, {"gpu.memory": "gpu-ecc-errors"}),
    Case(fault_of_a_program, clears=("gpu.faults",)),
    Case(card_not_well("REMAP_FAILED=1", "UNCORRECTED=3"), {"gpu.memory": "gpu-ecc-errors"}),
    Case(card_not_well("SLOWED_BY=0x40"), {"gpu.clocks": "gpu-throttled"}),
    Case(card_not_well("LINK_WIDTH=4"), {"gpu.link": "pcie-link-narrow"}),
    Case(card_not_well("MIG=1"), {"gpu.modes": "no-cuda-gpu-visible"}),
    Case(card_not_well("MIG=1", "MIG_INSTANCES=2"), clears=("gpu.modes",)),
    Case(card_not_well("COMPUTE_MODE=2"), {"gpu.modes": "gpu-exclusive-compute-mode"}),
    Case(card_not_well("COMPUTE_MODE=3", "HOLDER=1"), {"gpu.modes": "gpu-exclusive-compute-mode"}),
    Case(card_not_well("COMPUTE_MODE=3"), clears=("gpu.modes",)),
    Case(card_not_well("FABRIC_STATE=2"), {"gpu.fabric": "cuda-system-not-ready"}),
    Case(card_not_well("FABRIC_STATE=3"), clears=("gpu.fabric",)),
    Case(wsl_without_card, {"wsl.adapter": "wsl-no-adapter"}),
    Case(
        wsl_with_card, clears=("wsl.adapter", "wsl.libcuda", "driver.nvml", "cuda.libcuda-chain", "cuda.libcuda-load")
    ),
    Case(
        gpu_machine,
        clears=(
            *("driver.card", "driver.module", "driver.nodes", "driver.uvm", "driver.nvml", "driver.visible"),
            *("driver.version", "cpm.ptx", "gpu.memory", "gpu.clocks", "gpu.link", "gpu.modes"),
        ),
    ),
)
