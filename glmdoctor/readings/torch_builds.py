"""Which torch fits: one answer over the tables for the doctor's advice, its solver, and the script that sets up .venv.

Standard library alone is needed for the choice of a build: the script runs from a clone before anything is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from glmdoctor.knowledge import versions
from glmdoctor.readings.versions import admits, numbers

if TYPE_CHECKING:
    from glmdoctor.host.facts import NvmlGpu, Torch

Capability = tuple[int, int]


@dataclass(frozen=True)
class Build:
    """A CUDA build of torch, as a row of torch_builds.json has it."""

    version: str
    cuda: tuple[int, ...]
    index: str | None  # where pip finds it, besides its own index
    oldest: Capability
    newest: Capability
    pythons: tuple[tuple[int, ...], tuple[int, ...]]  # the first and the last

    def fits(self, python: tuple[int, ...] | None, cards: Sequence[Capability]) -> bool:
        """Has it a wheel for this Python and code for every card? What is not known forbids nothing."""
        on_python = python is None or self.pythons[0] <= python <= self.pythons[1]
        return on_python and all(map(self._has_code_for, cards))

    def _has_code_for(self, card: Capability) -> bool:
        return self.oldest <= card <= self.newest


def starts(cuda: tuple[int, ...], ceiling: tuple[int, int]) -> bool:
    """Does a build for this CUDA run at all on a driver with this ceiling? Minors of one major do."""
    return cuda[:1] <= ceiling[:1]


def best(python: tuple[int, ...] | None, ceiling: tuple[int, int] | None, cards: Sequence[Capability]) -> Build | None:
    """The CUDA build to install; None where none fits, or where nothing answers for a card: then the CPU build."""
    return next(fitting(python, ceiling, cards), None)


def fitting(
    python: tuple[int, ...] | None, ceiling: tuple[int, int] | None, cards: Sequence[Capability]
) -> Iterator[Build]:
    """CUDA builds that may be installed, the best first. ``python``: (major, minor).

    The newest within the driver's ceiling comes first; a newer minor of its major only where nothing lies within, the
    nearest first. Minor version compatibility starts it, but leaves out PTX that must be compiled here: what NVRTC or
    a newer ptxas makes is refused with CUDA_ERROR_UNSUPPORTED_PTX_VERSION, and torch's fusers, Triton and cpm_kernels'
    NVRTC do just that (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
    """
    if ceiling is None and not cards:
        return
    fit = [build for build in builds() if build.fits(python, cards)]
    yield from (build for build in fit if ceiling is None or build.cuda <= ceiling)
    yield from (build for build in reversed(fit) if ceiling and build.cuda > ceiling and starts(build.cuda, ceiling))


@cache
def builds() -> tuple[Build, ...]:
    """Every CUDA build that is known, the newest first."""
    return tuple(_build(row) for row in _table()["builds"])


def cpu_build() -> tuple[str, str]:
    """Version and index of the build for machines without a card."""
    return _table()["tested"]["version"], _table()["cpu_index"]


def _build(row: Mapping[str, Any]) -> Build:
    first, last = (numbers(python) for python in row["pythons"])
    oldest, newest = ((sm // 10, sm % 10) for sm in (row["oldest_sm"], row["newest_sm"]))
    return Build(row["version"], numbers(row["cuda"]), row["index"], oldest, newest, (first, last))


@cache
def _table() -> Mapping[str, Any]:
    raw = resources.files("glmdoctor.knowledge").joinpath("torch_builds.json").read_text(encoding="utf-8")
    table: Mapping[str, Any] = json.loads(raw)
    return table


def built_for(torch: Torch) -> Mapping[str, Any] | None:
    """The row of architectures (versions.json) of an installed build."""
    rows: list[Mapping[str, Any]] = versions()["torch_architectures"]["rows"]
    return next((row for row in rows if torch.cuda in row["cuda"] and admits(row["torch"], torch.version)), None)


def runs_on(row: Mapping[str, Any], gpu: NvmlGpu) -> bool:
    """Machine code of the card's own major and no later minor, or PTX of something older."""
    assert gpu.compute_capability is not None
    major, minor = gpu.compute_capability
    own = [numbers(name) for name in row["sm"]]
    ptx = numbers(row["ptx"]) if row["ptx"] else None
    return any(m == major and n <= minor for m, n in own) or (ptx is not None and ptx <= (major, minor))
