"""Compilers and the CPU kernel that they build: ours, one that the user names, and the original's."""

from __future__ import annotations

from dataclasses import dataclass

from glmdoctor.host.facts.base import Fact, Facts


@dataclass(frozen=True)
class Compiler:
    command: str  # "gcc"
    path: str
    family: str  # "gcc", "clang", "apple-clang"; "" as for version
    version: str  # "" where it was not asked, because one that comes before it answered
    target: str = ""  # "x86_64-linux-gnu", "mingw32", …; "" as for version, or where it does not tell
    native: bool | None = None  # does it know -march=native? Asked of a clang alone


@dataclass(frozen=True)
class Toolchain:
    compilers: tuple[Compiler, ...]  # in the order in which the kernel build tries them, each program once
    cc_variable: str | None  # $CC


@dataclass(frozen=True)
class KernelBuild:
    """The CPU quantisation kernel, really built (or taken from the cache) and compared with a reference."""

    ok: bool
    stage: str  # "cache" "compiler" "compile" "openmp" "load" "verify" "done": how far it came
    path: str | None  # the kernel_file
    compiler: str | None
    isa: str | None  # "avx512-vnni", "avx2", "plain", …
    openmp: bool
    cached: bool
    log: str  # the compiler's or loader's own words on failure
    max_error: float | None  # against the reference, relative


@dataclass(frozen=True)
class GivenKernel:
    """A kernel_file that the user or the environment names, tried as it is."""

    path: str
    ok: bool
    reason: str
    stage: str = ""  # where it failed: "load" "symbols" "crash" "verify"
    built_by: str = ""  # the compiler's own note in the file: "GCC: (Debian 12.2.0-14) 12.2.0"
    machine: str = ""  # the processor it was built for, as platform.machine() spells it


@dataclass(frozen=True)
class OriginalKernel:
    """A copy of a checkpoint's own quantization.py, and what its CPU kernel would find when it is imported there."""

    path: str
    in_cache: bool  # transformers' modules cache, which is what is really imported
    sources: tuple[str, ...]  # C files that it names
    missing: tuple[str, ...]  # those that are neither beside it nor inside it as text
    compiled: tuple[str, ...]  # libraries beside it
    kernel_file: str | None  # what it passes on itself; None: "No compiled kernel found", and it compiles


@dataclass(frozen=True)
class KernelRun:
    """A real product at a model's shape on one device, compared with exact numbers (``--deep``)."""

    device: str  # "cpu", "cuda:0"
    name: str
    fault: str | None  # what went wrong, in the device's own words
    error: float | None = None  # the largest, relative
    seconds: float | None = None  # the best of some rounds
    bandwidth: float | None = None  # bytes/s of the device's memory


class CompilerFacts(Facts):
    toolchain = Fact(Toolchain, "toolchain.toolchain")
    kernel_build = Fact(KernelBuild, "kernel.kernel_build")
    given_kernel = Fact(GivenKernel, "kernel.given_kernel")
    original_kernels = Fact(tuple[OriginalKernel, ...], "original_kernel.original_kernels")
    cpu_run = Fact(KernelRun, "deep.cpu_run", slow=True)
    gpu_runs = Fact(tuple[KernelRun, ...], "deep.gpu_runs", slow=True)
