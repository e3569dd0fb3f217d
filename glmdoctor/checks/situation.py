"""What the machine is for: the readings that decide how grave a finding is.

- A card without a working driver is a failure; without a card the CPU path stays open and nothing of CUDA fails.
- What only a model needs (memory, packages, kernels, toolkit libraries of cpm_kernels) fails when ``--model`` names
  one that needs it, and is a warning or no finding at all before.
- What works all the same, or is merely slower, is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import basename, dirname

from glmdoctor.checks.base import Machine, maybe
from glmdoctor.findings import Status
from glmdoctor.host.facts import Checkpoint, Library, PciDisplay

NVIDIA = "10de"
DRIVER_LIBRARIES = ("cuda", "nvidia-ml")
WSL_FOLDER = "/usr/lib/wsl/lib"
# Problems for which the NVIDIA module does not run, and those for which a driver that runs elsewhere is out of reach.
NO_MODULE = (
    "no-nvidia-driver",
    "nouveau-in-the-way",
    "driver-not-loaded",
    "kernel-module-mismatch",
    "secure-boot-module-rejected",
)
OUT_OF_REACH = ("docker-no-gpu-runtime", "wsl-gpu-lost", "wsl-libcuda-shadowed")
# Labels under which container engines confine what they run; spc_t, the label of privileged ones, is free.
CONFINED = ("container_t", "svirt_lxc_net_t", "container_init_t")


def cards(host: Machine) -> tuple[PciDisplay, ...]:
    """NVIDIA cards on the PCI bus that this system may use (one handed to a virtual machine is not its own)."""
    pci = maybe(host.pci) or ()
    return tuple(
        d for d in pci if d.vendor == NVIDIA and d.device_class.startswith(("03", "12")) and d.driver != "vfio-pci"
    )


def has_card(host: Machine) -> bool:
    """Is this a machine with an NVIDIA card? A loaded module or an answering NVML says so even without a PCI bus.

    A container that was not given the host's card, and does not ask for one, is a machine without.
    """
    if kept_outside(host) and not wants_card(host):
        return False
    driver, nvml = maybe(host.kernel_driver), maybe(host.nvml)
    answers = nvml and nvml.code == 0 and nvml.gpus
    return bool(cards(host) or (driver and driver.loaded) or answers or wsl_libcuda(host))


def kept_outside(host: Machine) -> bool:
    """Is this a container without the card's nodes? /proc and /sys show the host's module and card all the same."""
    driver = maybe(host.kernel_driver)
    return bool(container(host) and driver and driver.loaded and all(n.kind == "missing" for n in driver.nodes))


def wants_card(host: Machine) -> bool | None:
    """What NVIDIA_VISIBLE_DEVICES, set by CUDA images, asks the container engine for; None where it is not set."""
    settings = maybe(host.settings)
    value = settings.values.get("NVIDIA_VISIBLE_DEVICES") if settings else None
    return None if value is None else value not in ("", "void", "none")


def wsl_libcuda(host: Machine) -> tuple[Library, ...]:
    """The names of libcuda that Windows' driver lays into WSL; without an NVIDIA driver there are none."""
    libraries = maybe(host.libraries) or () if on_wsl(host) else ()
    return tuple(lib for lib in libraries if lib.name == "cuda" and lib.path.startswith(WSL_FOLDER))


def on_wsl(host: Machine) -> bool:
    os = maybe(host.os)
    return bool(os and os.wsl)


def container(host: Machine) -> str | None:
    """The kind of container that this process runs in."""
    os = maybe(host.os)
    return os.container if os else None


def confined_by_selinux(host: Machine) -> str | None:
    """The type of a container's label, under which SELinux keeps processes from devices whatever their modes say."""
    guards = maybe(host.guards)
    confined = guards and guards.selinux_type in CONFINED and guards.selinux_enforcing is not False
    return guards.selinux_type if guards and confined else None


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
        lib for lib in libraries if lib.name in DRIVER_LIBRARIES and lib.fault is None and not _beside_driver(lib)
    )


def _beside_driver(library: Library) -> bool:
    # Tegra's libcuda belongs to a GPU that is on no PCI bus and to a driver inside the kernel.
    return library.stub or is_compat(library) or library.elf_class == 32 or "/tegra" in library.file


def is_compat(library: Library) -> bool:
    """Does it belong to cuda-compat, NVIDIA's libcuda for running newer CUDA on an older data-centre driver?"""
    return any("/compat/" in path or "/compat_orig/" in path for path in library.chain)


def loaded_as(host: Machine, soname: str) -> Library | None:
    """The library that the dynamic loader takes for ``soname``."""
    loader = maybe(host.loader)
    path = loader.resolved.get(soname) if loader else None
    return at(maybe(host.libraries) or (), path) if path else None


def at(libraries: Iterable[Library], path: str) -> Library | None:
    """The library called ``path``; /lib and /usr/lib count as one, as they are one folder nearly everywhere."""
    wanted = path.removeprefix("/usr")
    return next(
        (lib for lib in libraries if wanted in (lib.path.removeprefix("/usr"), lib.file.removeprefix("/usr"))), None
    )


def driver_version(library: Library) -> str | None:
    """The driver version that a library's file name carries ("535.183.01"), not a mere SONAME number."""
    return library.version if re.fullmatch(r"\d{2,4}\.\d+(\.\d+)?", library.version or "") else None


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers to compare; anything after the first non-number is dropped."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))


def folder(library: Library) -> str:
    return dirname(library.path)


def name(library: Library) -> str:
    return basename(library.path)
