"""The CPU quantisation kernel: really built (or taken from the cache) and compared, by ``glmcore.kernels.build``."""

from __future__ import annotations

from glmdoctor.host.facts import GivenKernel, KernelBuild, Unknown
from glmdoctor.host.io import IO


def kernel_build(io: IO) -> KernelBuild | Unknown:
    from glmcore.errors import GlmError
    from glmcore.kernels.build import ensure_kernel

    try:
        kernel = ensure_kernel()
    except GlmError as error:
        return KernelBuild(False, "compile", None, None, None, False, False, str(error), None)
    return KernelBuild(
        True, "done", str(kernel.path), kernel.compiler, kernel.isa, kernel.openmp, kernel.cached, "", kernel.max_error
    )


def given_kernel(io: IO, path: str | None) -> GivenKernel | Unknown:
    """A kernel_file that the user names, tried as it is."""
    if path is None:
        return Unknown("no kernel file was named")
    from glmcore.errors import GlmError
    from glmcore.kernels.build import ensure_kernel

    try:
        ensure_kernel(kernel_file=path)
    except GlmError as error:
        return GivenKernel(path, False, str(error))
    return GivenKernel(path, True, "")
