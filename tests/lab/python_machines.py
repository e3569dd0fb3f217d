"""Machines whose Python packages or C compiler do not fit. Compilers named here are stand-ins: scripts before gcc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cxx
from case import Case
from driver_machines import MODULE, gpu_machine
from machine import Machine

NO_OPENMP = "gcc: error: unrecognized command-line option '-fopenmp'"
NO_HEADER = "glm.h:5:10: fatal error: stdint.h: No such file or directory"


def stand_in_compiler(machine: Machine, before: str = "") -> None:
    """gcc that runs ``before`` (shell) and does not optimise: these machines build a kernel of their own."""
    asked = 'case "$1" in --version) exec /usr/bin/gcc --version;; esac'
    script = f'#!/bin/sh\n# stand-in for gcc\n{asked}\n{before}\nexec /usr/bin/gcc "$@" -O0\n'
    machine.write("/usr/local/bin/gcc", script, 0o755)
    for name in ("cc", "clang"):
        machine.link(f"/usr/local/bin/{name}", "gcc")


def no_compiler(machine: Machine) -> None:
    machine.remove_compilers()


def compiler_without_openmp(machine: Machine) -> None:
    refuse = f'for word; do [ "$word" != -fopenmp ] || {{ echo "{NO_OPENMP}" >&2; exit 1; }}; done'
    stand_in_compiler(machine, refuse)


def compiler_of_32_bits(machine: Machine) -> None:
    stand_in_compiler(machine, 'case "$1" in -dumpmachine) echo i686-linux-gnu; exit;; esac; set -- -m32 "$@"')


def compiler_without_headers(machine: Machine) -> None:
    stand_in_compiler(machine, f'echo "{NO_HEADER}" >&2; exit 1')


def cache_that_runs_nothing(machine: Machine) -> None:
    """The cache's file system is mounted noexec: the kernel compiles and cannot be loaded."""
    stand_in_compiler(machine)
    cache = machine.folder / "home" / ".cache"
    machine.mounted_with(cache, "noexec")
    machine.environment["XDG_CACHE_HOME"] = str(cache)


def torch_without_cuda(machine: Machine) -> None:
    gpu_machine(machine)
    machine.patient("2.4.1+cpu", None)


def torch_newer_than_the_driver(machine: Machine) -> None:
    gpu_machine(machine)
    machine.driver_libraries(MODULE, health=("COMPUTE=80",))
    machine.patient("2.9.1+cu130", "13.0")


def torch_without_pascal(machine: Machine) -> None:
    gpu_machine(machine)
    machine.patient("2.8.0+cu128", "12.8")


def torch_before_blackwell(machine: Machine) -> None:
    gpu_machine(machine)
    machine.driver_libraries(MODULE, health=('CARD="NVIDIA RTX PRO 6000"', "COMPUTE=120"))


def torch_on_a_known_card(machine: Machine) -> None:
    gpu_machine(machine)


def torch_of_2021(machine: Machine) -> None:
    machine.patient("1.9.0", "11.1", numpy="1.19.5")


def runtime_deleted(machine: Machine) -> None:
    """pip removed the package of the CUDA runtime, which a second environment's clean-up took for unused."""
    gpu_machine(machine)
    (machine.patient() / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12").unlink()


def with_bitsandbytes(what: str, *binaries: str, **environment: str) -> Callable[[Machine], None]:
    def build(machine: Machine) -> None:
        gpu_machine(machine)
        folder = machine.patient(bitsandbytes="0.43.1") / "bitsandbytes"
        folder.mkdir()
        for name in binaries:
            (folder / f"libbitsandbytes_{name}.so").write_bytes(b"")
        machine.environment |= environment

    build.__name__ = what
    return build


def flash_attention(release: str) -> Callable[[Machine], None]:
    def build(machine: Machine) -> None:
        gpu_machine(machine)
        record = machine.patient(flash_attn="2.7.4") / "flash_attn-2.7.4.dist-info" / "direct_url.json"
        wheel = f"flash_attn-2.7.4+cu12torch{release}cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
        record.write_text(f'{{"url": "https://wheels.example/{wheel}"}}')

    build.__name__ = "flash_attention_for_torch_" + release.replace(".", "_")
    return build


def conda_of_2019(machine: Machine) -> None:
    """A conda environment brings its own libstdc++, and pip installed a newer wheel into it."""
    conda_environment(machine, "3.4.21", "3.4.25")


def conda_of_this_year(machine: Machine) -> None:
    conda_environment(machine, "3.4.21", "3.4.29", "3.4.30")


def conda_environment(machine: Machine, *versions: str) -> None:
    site = machine.patient()
    prefix, newest = site.parents[2], machine.folder / "newest" / cxx.SONAME
    (prefix / "conda-meta").mkdir()
    cxx.runtime(Path(prefix / "lib" / cxx.SONAME), *versions)
    cxx.runtime(newest, "3.4.21", "3.4.29")
    cxx.consumer(site / "torch" / "lib" / "libc10.so", "3.4.29", newest)


def packages(what: str, torch: str = "2.4.1+cu121", **versions: str | None) -> Callable[[Machine], None]:
    def build(machine: Machine) -> None:
        machine.patient(torch, **versions)

    build.__name__ = what
    return build


BITSANDBYTES = {"python.bitsandbytes": "bitsandbytes-cuda-setup"}
CASES = (
    Case(no_compiler, {"compiler.found": "gcc-missing"}),
    Case(compiler_without_openmp, {"compiler.openmp": "openmp-missing"}),
    Case(compiler_of_32_bits, {"compiler.found": "compiler-32bit"}, causes=("compiler-32bit",)),
    Case(compiler_without_headers, {"kernel.build": "cpu-kernel-not-loaded"}),
    Case(cache_that_runs_nothing, {"kernel.build": "kernel-so-not-loadable"}),
    Case(torch_without_cuda, {"torch.build": "torch-cpu-only"}),
    Case(torch_newer_than_the_driver, {"torch.driver": "cuda-driver-too-old"}),
    Case(
        torch_without_pascal,
        {"torch.architecture": "torch-arch-unsupported", "python.together": "python-deps-missing"},
        causes=("torch-arch-unsupported",),
    ),
    Case(torch_before_blackwell, {"torch.architecture": "torch-arch-unsupported"}),
    Case(torch_on_a_known_card, clears=("torch.version", "torch.build", "torch.architecture", "python.together")),
    Case(
        torch_of_2021,
        {"torch.version": "torch-too-old-skip-init", "python.packages": "python-deps-missing"},
    ),
    Case(runtime_deleted, {"cuda.runtime": "cuda-runtime-so-missing"}),
    Case(with_bitsandbytes("bitsandbytes_of_another_cuda", "cpu", "cuda118"), BITSANDBYTES),
    Case(with_bitsandbytes("bitsandbytes_told_otherwise", "cuda121", BNB_CUDA_VERSION="118"), BITSANDBYTES),
    Case(with_bitsandbytes("bitsandbytes_for_this_cuda", "cpu", "cuda121"), clears=("python.bitsandbytes",)),
    Case(flash_attention("2.5"), {"python.flash-attn": "flash-attn-abi"}),
    Case(flash_attention("2.4"), clears=("python.flash-attn",)),
    Case(conda_of_2019, {"python.cxx": "libstdcxx-too-old"}),
    Case(conda_of_this_year, clears=("python.cxx",)),
    Case(packages("no_safetensors", safetensors=None), {"python.packages": "python-deps-missing"}),
    Case(
        packages("torch_of_numpy_1", "2.2.2+cu121", numpy="2.1.0"),
        {"python.clashes": "numpy2-abi", "python.packages": "python-deps-missing"},
    ),
    Case(packages("new_protobuf", icetk="0.0.7", protobuf="4.25.1"), {"python.clashes": "protobuf-too-new"}),
    Case(packages("new_gradio", mdtex2html="1.3.0", gradio="4.44.0"), {"python.clashes": "gradio-incompatible"}),
    Case(packages("new_pydantic", gradio="4.44.0", pydantic="2.11.1"), {"python.clashes": "pydantic-version"}),
    Case(
        packages("no_torch_yet", None),
        clears=("python.clashes", "compiler.found", "compiler.openmp", "kernel.build"),
    ),
)
