"""Loads a kernel library: the file that was verified, and no other. Imports no torch."""

from __future__ import annotations

import ctypes
import hashlib
import os
from pathlib import Path

from glmcore.kernels.failure import KernelError


def opened(path: Path, sha256: str) -> ctypes.CDLL:
    """The library whose verified content has ``sha256``: a private copy is hashed, compared, and loaded.

    Raises ``KernelError`` where the file has been replaced since.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise KernelError("kernel-file", "the kernel has been replaced since it was verified", stage="load",
                          where=str(path), hint="start again")  # fmt: skip
    if not hasattr(os, "memfd_create"):  # Linux alone has files without a name
        return ctypes.CDLL(str(path))
    # Never closed: the loader knows libraries by their names, and this number must not name another one later.
    descriptor = os.memfd_create("glm_kernel", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as copy:
        copy.write(content)
    try:
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except OSError:  # no /proc, or a system that runs nothing of unnamed files
        os.close(descriptor)
        return ctypes.CDLL(str(path))
