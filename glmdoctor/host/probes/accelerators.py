"""Accelerators of other makers than NVIDIA, by the PCI bus and the names of device nodes. None is ever opened."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmdoctor.host.facts import Accelerator, Loader, PciDisplay, Unknown
from glmdoctor.host.io import IO

AMD, INTEL, HUAWEI = "1002", "8086", "19e5"
# Intel's graphics inside the processor sits here on every machine; cards (Arc, Flex, Max) lie behind a bridge.
INSIDE = "0000:00:02.0"
DAVINCI, COMPASS = re.compile(r"davinci\d+"), re.compile(r"gp\d+")
ROCM, CANN = "/opt/rocm", "/usr/local/Ascend"
LEVEL_ZERO = "libze_loader.so.1"


def accelerators(
    io: IO, pci: tuple[PciDisplay, ...] | Unknown, loader: Loader | Unknown
) -> tuple[Accelerator, ...] | Unknown:
    if io.system == "Darwin":
        return (Accelerator("apple", (), (), None, None),) if io.machine == "arm64" else ()
    if io.system != "Linux":
        return Unknown(f"accelerators are looked for in /sys and /dev, which {io.system} does not have")
    cards = () if isinstance(pci, Unknown) else pci
    return tuple(_found(io, cards, loader))


def _found(io: IO, cards: tuple[PciDisplay, ...], loader: Loader | Unknown) -> Iterator[Accelerator]:
    names = io.names("/dev")
    amd = [card for card in cards if card.vendor == AMD]
    if amd or "kfd" in names:
        yield _made("amd", amd, ["/dev/kfd"] if "kfd" in names else [], _folder(io, ROCM))
    intel = [card for card in cards if card.vendor == INTEL and card.address != INSIDE]
    if intel:
        yield _made("intel", intel, _nodes(io, re.compile(r"renderD\d+"), "/dev/dri"), _level_zero(io, loader))
    ascend, davinci = [card for card in cards if card.vendor == HUAWEI], _nodes(io, DAVINCI)
    if ascend or davinci:
        yield _made("ascend", ascend, davinci, _folder(io, CANN))
    compass = _nodes(io, COMPASS)
    if compass:
        yield _made("hexaflake", [], compass, None, _module(io, "hx"))


def _made(
    kind: str, cards: list[PciDisplay], nodes: list[str], runtime: str | None, driver: str | None = None
) -> Accelerator:
    bound = next((card.driver for card in cards if card.driver), driver)
    return Accelerator(kind, tuple(card.address for card in cards), tuple(nodes), bound, runtime)


def _nodes(io: IO, pattern: re.Pattern[str], folder: str = "/dev") -> list[str]:
    return [f"{folder}/{name}" for name in io.names(folder) if pattern.fullmatch(name)]


def _folder(io: IO, path: str) -> str | None:
    return path if io.is_folder(path) else None


def _level_zero(io: IO, loader: Loader | Unknown) -> str | None:
    folders = loader.folders if isinstance(loader, Loader) else ()
    return next((f"{folder}/{LEVEL_ZERO}" for folder in folders if io.exists(f"{folder}/{LEVEL_ZERO}")), None)


def _module(io: IO, beginning: str) -> str | None:
    return next((name for name in io.names("/sys/module") if name.startswith(beginning)), None)
