"""The Python that is examined, and the packages in it that decide. Nothing of them is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class Interpreter:
    """The Python that is examined; packages by their metadata, nothing imported."""

    executable: str
    version: str
    prefix: str
    platform_tag: str  # "linux_x86_64"
    packages: Mapping[str, str]  # normalised name → version
    site_folders: tuple[str, ...]
    # What the wheels themselves ask for, of the few that decide: name → requirements, "python>=3.9" among them.
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Torch:
    """torch in the examined interpreter, read from its version file; never imported."""

    version: str  # "2.13.0+cpu"
    cuda: str | None  # "12.6"; None for a CPU build
    hip: str | None
    path: str
    bundled: tuple[str, ...]  # CUDA library files in torch/lib and nvidia/*/lib


@dataclass(frozen=True)
class FlashAttention:
    """flash-attn in the examined interpreter, by the name of its wheel."""

    version: str
    wheel: str  # the file or address that pip installed; "" where pip wrote none down, as after building it here
    torch: str | None  # "2.5": the release that the wheel is for


@dataclass(frozen=True)
class Bitsandbytes:
    """bitsandbytes in the examined interpreter, by its files."""

    version: str
    folder: str
    binaries: tuple[str, ...]  # what it brings: "cpu", "cuda118", "rocm62", …


@dataclass(frozen=True)
class CxxLibrary:
    """A libstdc++.so.6, and the GLIBCXX versions that it defines."""

    path: str
    found_by: str  # "conda" "LD_LIBRARY_PATH" "loader"
    defines: tuple[str, ...]


@dataclass(frozen=True)
class CxxRuntime:
    """The C++ runtimes of this machine, that which the examined Python loads first, and what its packages need."""

    libraries: tuple[CxxLibrary, ...]
    needs: Mapping[str, tuple[str, ...]]  # file → GLIBCXX versions that it asks for, the oldest first


@dataclass(frozen=True)
class OpenMp:
    """The OpenMP runtimes in a process that has imported numpy and torch (``--deep``)."""

    runtimes: tuple[str, ...]  # their files; () on systems that do not list them
    fault: str | None = None  # what one of them said when it ended the process


class PythonFacts(Facts):
    interpreter = Fact(Interpreter, "python.interpreter")
    torch = Fact(Torch, "python.torch")
    flash_attention = Fact(FlashAttention, "flash_attention.flash_attention")
    bitsandbytes = Fact(Bitsandbytes, "bitsandbytes.bitsandbytes")
    openmp = Fact(OpenMp, "openmp.openmp", slow=True)
    cxx_runtime = Fact(CxxRuntime, "cxx.cxx_runtime")
