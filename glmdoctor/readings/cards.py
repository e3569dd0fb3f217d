"""The NVIDIA cards that this system may use, and what surrounds it: a container, WSL, SELinux."""

from __future__ import annotations

from glmdoctor.host.facts import Library, PciDisplay
from glmdoctor.readings.driver import from_windows
from glmdoctor.readings.machine import Machine, maybe

NVIDIA = "10de"
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
    return tuple(lib for lib in libraries if lib.name == "cuda" and from_windows(lib))


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
