"""The C compiler, OpenMP and the CPU kernel."""

from __future__ import annotations

from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.answer import Answer, Commands, Shell, by_host, shell
from glmdoctor.remedies.distribution import install

KERNEL = "--kernel"
COMPILER = {"debian": "gcc libc6-dev", "fedora": "gcc", "suse": "gcc", "arch": "gcc", "alpine": "gcc musl-dev"}
OPENMP = {"debian": "libgomp1", "fedora": "libgomp", "suse": "libgomp1", "arch": "gcc-libs", "alpine": "libgomp"}
CLANG_OPENMP = {"debian": "libomp-dev", "fedora": "libomp-devel", "suse": "libomp-devel", "arch": "openmp"}


def openmp(host: Machine) -> Commands:
    toolchain = maybe(host.toolchain)
    clang = toolchain and toolchain.compilers and toolchain.compilers[0].family == "clang"
    os = maybe(host.os)
    if os and os.system == "Darwin":
        return (Shell("brew install libomp"),)
    return install(host, CLANG_OPENMP if clang else OPENMP)


ANSWERS = {
    "gcc-missing": Answer(advice=by_host(lambda host: install(host, COMPILER)), option=KERNEL),
    "openmp-missing": Answer(advice=by_host(openmp)),
    "cpu-kernel-not-loaded": Answer(advice=shell("glmdoctor fix --kernel"), option=KERNEL),
    "kernel-so-not-loadable": Answer(
        advice=shell("unset GLMCORE_KERNEL_FILE", "glmdoctor fix --kernel"), option=KERNEL
    ),
}
