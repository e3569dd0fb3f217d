"""The CPU quantisation kernel: the probe has built and compared it; here it gets a lasting name."""

from __future__ import annotations

import posixpath
import shlex

from glmdoctor.actions import PlaceLink
from glmdoctor.messages import text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.plan import Options, Plan

VARIABLE = "GLMCORE_KERNEL_FILE"
CHECK = "kernel.build"


def place(host: Machine, options: Options) -> Plan | None:
    """A link to the kernel that was verified on this machine, for every program that takes a kernel_file."""
    build = maybe(host.kernel_build)
    if build is None or not build.ok or build.path is None:
        return None
    path = placed(options)
    title = text("Place the verified CPU kernel as {path}", path=path)
    line = f"export {VARIABLE}={shlex.quote(path)}"
    return Plan("place-kernel", title, (CHECK,), (PlaceLink(path, build.path),), {VARIABLE: path}, (line,))


def placed(options: Options) -> str:
    """The lasting name."""
    return posixpath.join(options.private, "kernel", "quantization_kernels.so")
