"""The CPU quantisation kernel: really built (or taken from the cache) and compared, by ``glmcore.kernels.build``.

It is kept in the user's cache and nowhere else: where that takes nothing, nothing is built.
"""

from __future__ import annotations

import re

from glmcore.kernels.build import KernelError, KernelLibrary, ensure_kernel
from glmdoctor.host.facts import GivenKernel, KernelBuild, Unknown
from glmdoctor.host.io import IO, RealIO
from glmdoctor.host.probes import elf

# How far a build came, where the kernel's own words for it differ from the fact's.
COMMENT = re.compile(rb"GCC: \([^)\0]{0,80}\) [\d.]+|(?:[\w ]{0,20})clang version [\d.]+")
READ = 1 << 22  # bytes; a kernel is far smaller
STAGES = {"symbols": "load", "crash": "verify"}


def kernel_build(io: IO) -> KernelBuild | Unknown:
    if not isinstance(io, RealIO):
        return Unknown("a recorded machine cannot build a kernel")
    try:
        return _built(ensure_kernel(temporary=False))
    except KernelError as error:
        stage = STAGES.get(error.stage, error.stage)
        return KernelBuild(False, stage, None, None, None, False, False, error.log or str(error), None)


def _built(kernel: KernelLibrary) -> KernelBuild:
    return KernelBuild(
        ok=True,
        stage="done",
        path=str(kernel.path),
        compiler=kernel.compiler,
        isa=kernel.isa,
        openmp=kernel.openmp,
        cached=kernel.cached,
        log=kernel.log,
        max_error=kernel.max_error,
    )


def given_kernel(io: IO, kernel_file: str | None) -> GivenKernel | Unknown:
    """A kernel_file that the user or the environment names, verified as it is."""
    if not kernel_file:
        return Unknown("no kernel file was named")
    if not isinstance(io, RealIO):
        return Unknown("a recorded machine cannot load a kernel")
    try:
        ensure_kernel(kernel_file, temporary=False)
    except KernelError as error:
        header = elf.read(io, kernel_file)
        return GivenKernel(
            kernel_file, False, str(error), error.stage, _built_by(kernel_file), (header and header.machine) or ""
        )
    return GivenKernel(kernel_file, True, "")


def _built_by(path: str) -> str:
    """The compiler's note in the section .comment, by its words alone; "" where the file has none."""
    try:
        with open(path, "rb") as file:
            raw = file.read(READ)
    except OSError:
        return ""
    found = COMMENT.search(raw)
    return found.group().decode("ascii", "replace") if found else ""
