"""The few facts at the head of a report, each in one line; an allow-list, so that nothing private slips in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmdoctor.host.facts import Cpu, Interpreter, KernelDriver, Memory, Nvml, Os, Torch, Unknown
from glmdoctor.messages import Text, text

if TYPE_CHECKING:
    from glmdoctor.host.host import Host

GIB = 2**30


def rows(host: Host) -> list[tuple[Text, Text | str]]:
    """Label and value of each fact that is known."""
    pairs: list[tuple[Text, Text | str | None]] = [
        (text("System"), _system(host.os)),
        (text("Processor"), _processor(host.cpu)),
        (text("Memory"), _memory(host.memory)),
        (text("NVIDIA driver"), _driver(host.kernel_driver)),
        (text("Cards"), _cards(host)),
        (text("Python"), _python(host.interpreter)),
        (text("torch"), _torch(host.torch)),
    ]
    return [(label, value) for label, value in pairs if value]


def _system(os: Os | Unknown) -> str | None:
    if isinstance(os, Unknown):
        return None
    words = (os.pretty_name or os.system, os.kernel, os.machine, os.container, "WSL" if os.wsl else None)
    return ", ".join(word for word in words if word)


def _processor(cpu: Cpu | Unknown) -> Text | None:
    if isinstance(cpu, Unknown):
        return None
    return text(
        "{model}, {usable} of {logical} threads usable", model=cpu.model, usable=f"{cpu.usable:g}", logical=cpu.logical
    )


def _memory(memory: Memory | Unknown) -> Text | None:
    if isinstance(memory, Unknown):
        return None
    return text("{free} GiB free of {total} GiB", free=f"{memory.usable / GIB:.1f}", total=f"{memory.total / GIB:.1f}")


def _driver(driver: KernelDriver | Unknown) -> Text | str | None:
    if isinstance(driver, Unknown):
        return None
    return (driver.version or text("loaded")) if driver.loaded else text("not loaded")


def _cards(host: Host) -> str | None:
    if isinstance(host.kernel_driver, Unknown) or not host.kernel_driver.loaded:
        return None  # NVML is not asked for a headline alone
    nvml: Nvml | Unknown = host.nvml
    if isinstance(nvml, Unknown):
        return None
    return ", ".join(f"{gpu.name} ({gpu.memory_total / GIB:.0f} GiB)" for gpu in nvml.gpus) or None


def _python(interpreter: Interpreter | Unknown) -> str | None:
    return None if isinstance(interpreter, Unknown) else f"{interpreter.version} ({interpreter.executable})"


def _torch(torch: Torch | Unknown) -> Text | str | None:
    if isinstance(torch, Unknown):
        return None
    return torch.version
