"""What the machine is for: the readings that decide how grave a finding is."""

from __future__ import annotations

from glmdoctor.checks.base import Machine, maybe
from glmdoctor.findings import Status
from glmdoctor.host.facts import Checkpoint, Library, PciDisplay

NVIDIA = "10de"
DRIVER_LIBRARIES = ("cuda", "nvidia-ml")


def cards(host: Machine) -> tuple[PciDisplay, ...]:
    """NVIDIA cards on the PCI bus that this system may use (one handed to a virtual machine is not its own)."""
    pci = maybe(host.pci) or ()
    return tuple(d for d in pci if d.vendor == NVIDIA and d.device_class.startswith("03") and d.driver != "vfio-pci")


def has_card(host: Machine) -> bool:
    """Is this a machine with an NVIDIA card? A loaded module or an answering NVML says so even without a PCI bus."""
    driver, nvml = maybe(host.kernel_driver), maybe(host.nvml)
    return bool(cards(host) or (driver and driver.loaded) or (nvml and nvml.code == 0 and nvml.gpus))


def grade(host: Machine) -> Status:
    """How grave a fault of the CUDA side is: without a card the CPU path stays open, so it is only worth a warning."""
    return Status.FAIL if has_card(host) else Status.WARN


def model_grade(host: Machine) -> Status:
    """How grave a fault is that hinders running a model: ``--model`` makes what the model needs a failure."""
    return Status.WARN if model(host) is None else Status.FAIL


def model(host: Machine) -> Checkpoint | None:
    """The checkpoint named by ``--model``, where there is one on the disk."""
    checkpoint = maybe(host.checkpoint)
    return checkpoint if checkpoint and checkpoint.exists and checkpoint.is_folder else None


def driver_libraries(host: Machine) -> tuple[Library, ...]:
    """The driver's own user-space libraries: no link-time stubs, no forward-compatibility package, no 32-bit twin."""
    libraries = maybe(host.libraries) or ()
    return tuple(
        lib
        for lib in libraries
        if lib.name in DRIVER_LIBRARIES
        and lib.fault is None
        and not (lib.stub or is_compat(lib) or lib.elf_class == 32)
    )


def is_compat(library: Library) -> bool:
    """Does it belong to cuda-compat, NVIDIA's libcuda for running newer CUDA on an older data-centre driver?"""
    return any("/compat/" in path or "/compat_orig/" in path for path in library.chain)
