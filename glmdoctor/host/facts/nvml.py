"""What the driver answers when it is asked: its cards, and the highest CUDA that it supports."""

from __future__ import annotations

from dataclasses import dataclass

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class GpuProcess:
    pid: int
    name: str  # "" where this user may not know it
    memory: int | None  # bytes on the card; None where the driver does not tell (Windows, WSL)


@dataclass(frozen=True)
class GpuLink:
    """The PCIe link as it is, and the best that this card in this slot can do. An idle card lowers its generation."""

    generation: int
    generation_max: int
    width: int
    width_max: int


@dataclass(frozen=True)
class GpuMemoryFaults:
    """Uncorrectable errors of the card's memory, and what the driver has done about them."""

    since_boot: int | None  # None where the card has no ECC, or has it switched off
    ever: int | None
    remap_pending: bool = False  # a bad row or page is taken out at the next reset
    remap_failed: bool = False  # there is no spare row left


@dataclass(frozen=True)
class NvmlGpu:
    index: int
    name: str
    memory_total: int
    memory_free: int
    compute_capability: tuple[int, int] | None
    uuid: str = ""
    # What the driver or the card does not tell is None or empty.
    pci: str = ""  # "00000000:01:00.0"
    performance_state: int | None = None  # 0 is the fastest; 8 and above is idle
    temperature: int | None = None  # degrees Celsius
    slowed_by: tuple[str, ...] = ()  # "hw-slowdown" "hw-thermal" "sw-thermal" "power-brake" "power-cap"
    link: GpuLink | None = None
    memory_faults: GpuMemoryFaults | None = None
    persistence: bool | None = None
    mig: bool | None = None
    mig_instances: int = 0
    compute_mode: str | None = None  # "default" "exclusive-thread" "prohibited" "exclusive-process"
    fabric: str | None = None  # "not-started" "in-progress" "completed", or "error 31"; None without NVSwitch
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True)
class Nvml:
    """What the driver's management library answers (through pynvml)."""

    code: int  # 0, or nvmlReturn_t: 9 driver not loaded, 12 library not found, 18 mismatch, …
    message: str
    library: str | None  # the file loaded
    library_version: str | None
    driver_version: str | None
    gpus: tuple[NvmlGpu, ...] = ()
    asked: bool = True  # False: not called (as root without a driver the call would create nodes), concluded by looking
    code_without_ld_library_path: int | None = None  # asked again where the code is 18 and the variable is set


@dataclass(frozen=True)
class DriverCeiling:
    """Highest CUDA version the driver's libcuda supports, from cuDriverGetVersion in a child process."""

    cuda: tuple[int, int]  # (12, 2)
    library: str


class NvmlFacts(Facts):
    nvml = Fact(Nvml, "nvml.nvml")
    ceiling = Fact(DriverCeiling, "nvml.ceiling")
