"""Machines on which libcuda, the toolkit or the linker's cache are not what programs need."""

from __future__ import annotations

import struct
from collections.abc import Callable

from case import Case
from driver_machines import MODULE, OTHER, gpu_machine
from machine import LIB, Machine


def driver_and_toolkit(machine: Machine) -> None:
    gpu_machine(machine)


def dangling_chain(machine: Machine) -> None:
    gpu_machine(machine)
    machine.link(f"{LIB}/libcuda.so.1", f"libcuda.so.{OTHER}")


def looping_chain(machine: Machine) -> None:
    gpu_machine(machine)
    machine.link(f"{LIB}/libcuda.so.1", "libcuda.so")


def empty_library(machine: Machine) -> None:
    """A zero-byte file is what a container image keeps of a mounted driver."""
    gpu_machine(machine)
    machine.write(f"{LIB}/libcuda.so.{MODULE}", b"")


def cut_library(machine: Machine) -> None:
    """A full disk or an interrupted copy."""
    gpu_machine(machine)
    path = machine._upper(f"{LIB}/libcuda.so.{MODULE}")
    machine.write(f"{LIB}/libcuda.so.{MODULE}", path.read_bytes()[:40])


def library_of_32_bits(machine: Machine) -> None:
    gpu_machine(machine)
    machine.library(f"{LIB}/libcuda.so.{MODULE}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020", bits=32)


def folder_of_32_bits_first(machine: Machine) -> None:
    """The loader passes over a 32-bit twin; its own folder, as distributions have it, does no harm."""
    gpu_machine(machine)
    twin = "/usr/lib/i386-linux-gnu/libcuda.so.1"
    machine.library(twin, "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020", bits=32)


def link_to_another_version(machine: Machine) -> None:
    """Somebody linked the plain name by hand; libcuda.so.1 itself is right."""
    gpu_machine(machine)
    machine.library(f"{LIB}/libcuda.so.{OTHER}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12040")
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{LIB}/libcuda.so.{OTHER}")


STUB = ("libcuda.so.1", "LIB_CUDA", "STUB_LIBRARY", "CU_INIT=34")


def stub_first(machine: Machine) -> None:
    gpu_machine(machine)
    machine.library("/usr/local/cuda-12.2/lib64/stubs/libcuda.so", *STUB)
    machine.link("/usr/local/cuda-12.2/lib64/stubs/libcuda.so.1", "libcuda.so")
    machine.environment["LD_LIBRARY_PATH"] = "/usr/local/cuda-12.2/lib64/stubs"


def stub_by_cuda_path(machine: Machine) -> None:
    """torch works, cpm_kernels gets the stub: somebody led lib64/libcuda.so to the file that the linker wanted."""
    gpu_machine(machine)
    machine.library("/usr/local/cuda-12.2/lib64/stubs/libcuda.so", *STUB)
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", "stubs/libcuda.so")
    machine.environment["CUDA_PATH"] = "/usr/local/cuda-12.2"


def stub_at_rest(machine: Machine) -> None:
    """Every toolkit has one; nobody is led to it."""
    gpu_machine(machine)
    machine.library("/usr/local/cuda-12.2/lib64/stubs/libcuda.so", *STUB)


def cuda_path_gone(machine: Machine) -> None:
    gpu_machine(machine)
    take_toolkit_away(machine)


def take_toolkit_away(machine: Machine) -> None:
    """The variable still names a toolkit that was removed, and no other is in its place."""
    machine.discard("/usr/local/cuda")
    machine.environment["CUDA_PATH"] = "/usr/local/cuda-11.7"


def cuda_link_dangles(machine: Machine) -> None:
    gpu_machine(machine)
    machine.default_toolkit("cuda-11.7")


def variables_disagree(machine: Machine) -> None:
    gpu_machine(machine)
    other = machine.toolkit("11.8")
    machine.environment |= {"CUDA_PATH": "/usr/local/cuda-12.2", "CUDA_HOME": other}


def cache_names_what_is_gone(machine: Machine) -> None:
    """A library was deleted by hand, ldconfig never run again; the driver's link went with it."""
    gpu_machine(machine)
    for name in (f"libcuda.so.{MODULE}", "libcuda.so.1", "libcuda.so"):
        machine.discard(f"{LIB}/{name}")
    machine.discard("/usr/local/cuda-12.2/lib64/libcuda.so")


def cache_lacks_what_is_there(machine: Machine) -> None:
    """Copied into a folder of ld.so.conf by hand, ldconfig never run."""
    folder = "/usr/local/driver/lib"
    gpu_machine(machine)
    for name in (f"libcuda.so.{MODULE}", "libcuda.so.1", "libcuda.so"):
        machine.discard(f"{LIB}/{name}")
    machine.refresh_linker_cache()
    machine.write("/etc/ld.so.conf.d/driver.conf", folder + "\n")
    machine.library(f"{folder}/libcuda.so.{MODULE}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020")
    machine.link(f"{folder}/libcuda.so.1", f"libcuda.so.{MODULE}")
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{folder}/libcuda.so.1")


def libcuda_out_of_the_loaders_way(machine: Machine) -> None:
    """A container runtime's folder that is neither configured nor in LD_LIBRARY_PATH."""
    folder = "/usr/local/nvidia/lib64"
    gpu_machine(machine)
    for name in (f"libcuda.so.{MODULE}", "libcuda.so.1", "libcuda.so"):
        machine.discard(f"{LIB}/{name}")
    machine.refresh_linker_cache()
    machine.library(f"{folder}/libcuda.so.{MODULE}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12020")
    machine.link(f"{folder}/libcuda.so.1", f"libcuda.so.{MODULE}")
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{folder}/libcuda.so.1")


def plain_name_missing(machine: Machine) -> None:
    """The driver's packages alone: libcuda.so.1 for programs, no libcuda.so for those who look for that."""
    gpu_machine(machine)
    machine.discard("/usr/local/cuda-12.2/lib64/libcuda.so")
    machine.driver_libraries(MODULE, folder="/usr/local/nvidia/lib64")
    for name in (f"libcuda.so.{MODULE}", "libcuda.so.1", "libcuda.so"):
        machine.discard(f"{LIB}/{name}")
    machine.discard("/usr/local/nvidia/lib64/libcuda.so")
    machine.refresh_linker_cache()
    machine.environment["LD_LIBRARY_PATH"] = "/usr/local/nvidia/lib64"


def no_toolkit_libraries(machine: Machine) -> None:
    """Driver and card are fine, but nothing that cpm_kernels looks for beside libcuda is there."""
    machine.card()
    machine.module(MODULE)
    machine.driver_libraries(MODULE)
    machine.refresh_linker_cache()


def compat_older_than_the_driver(machine: Machine) -> None:
    """An old image with cuda-compat on a newer host: error 803."""
    compat_first(machine, "520.61.05")


def compat_on_a_consumer_card(machine: Machine) -> None:
    """Forward compatibility is for data-centre cards: error 804."""
    compat_first(machine, OTHER)
    machine.driver_libraries(MODULE, health=('CARD="NVIDIA GeForce RTX 3090"', "COMPUTE=86"))


def compat_on_a_data_centre_card(machine: Machine) -> None:
    compat_first(machine, OTHER)


def compat_first(machine: Machine, version: str) -> None:
    gpu_machine(machine)
    folder = "/usr/local/cuda-12.2/compat"
    machine.library(f"{folder}/libcuda.so.{version}", "libcuda.so.1", "LIB_CUDA", "CUDA_VERSION=12040")
    machine.link(f"{folder}/libcuda.so.1", f"libcuda.so.{version}")
    machine.environment["LD_LIBRARY_PATH"] = folder


def older_cublas_first(machine: Machine) -> None:
    gpu_machine(machine)
    site = machine.patient()
    ours = site / "nvidia" / "cublas" / "lib" / "libcublasLt.so.12"
    ours.rename(ours.with_name("libcublasLt.so.12.4.5.8"))
    ours.symlink_to("libcublasLt.so.12.4.5.8")
    machine.library("/usr/local/old/libcublasLt.so.12.1.0.26", "libcublasLt.so.12")
    machine.link("/usr/local/old/libcublasLt.so.12", "libcublasLt.so.12.1.0.26")
    machine.environment["LD_LIBRARY_PATH"] = "/usr/local/old"


def code_of_cpm_kernels(*targets: int) -> Callable[[Machine], None]:
    """cpm_kernels' own file, cut down to what names its architectures; the card is a 6.1."""

    def build(machine: Machine) -> None:
        gpu_machine(machine)
        file = machine.patient() / "cpm_kernels" / "kernels" / "cuda" / "transpose.fatbin"
        file.parent.mkdir(parents=True)
        entries = b"".join(struct.pack("<HHIQ12xI32x", 2, 0x101, 64, 0, target) for target in targets)
        file.write_bytes(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries)

    build.__name__ = "code_of_cpm_kernels_" + "_".join(map(str, targets))
    return build


CASES = (
    Case(dangling_chain, {"cuda.libcuda-chain": "libcuda-link-broken"}),
    Case(looping_chain, {"cuda.libcuda-chain": "libcuda-link-broken"}),
    Case(empty_library, {"cuda.libcuda-chain": "libcuda-link-broken"}),
    Case(cut_library, {"cuda.libcuda-chain": "libcuda-link-broken"}),
    Case(library_of_32_bits, {"cuda.libcuda-chain": "libcuda-link-broken"}),
    Case(folder_of_32_bits_first, clears=("cuda.libcuda-chain", "cuda.libcuda-load")),
    Case(link_to_another_version, {"cuda.libcuda-version": "libcuda-link-broken"}),
    Case(stub_first, {"cuda.libcuda-stub": "libcuda-stub-loaded"}),
    Case(stub_by_cuda_path, {"cuda.libcuda-stub": "libcuda-stub-loaded"}),
    Case(stub_at_rest, clears=("cuda.libcuda-stub", "cuda.libcuda-link")),
    Case(cuda_path_gone, {"cuda.path": "cuda-path-wrong"}),
    Case(cuda_link_dangles, {"cuda.path": "cuda-path-wrong"}),
    Case(variables_disagree, {"cuda.path": "cuda-path-wrong"}),
    Case(cache_names_what_is_gone, {"cuda.linker-cache": "linker-cache-stale"}),
    Case(cache_lacks_what_is_there, {"cuda.linker-cache": "linker-cache-stale"}),
    Case(libcuda_out_of_the_loaders_way, {"cuda.libcuda-load": "libcuda-so-missing"}),
    Case(plain_name_missing, {"cuda.libcuda-link": "libcuda-not-in-cuda-path"}),
    Case(no_toolkit_libraries, {"cpm.toolkit": "cpm-toolkit-libs-missing"}),
    Case(code_of_cpm_kernels(70, 75, 80), {"cpm.code": "cpm-kernels-arch-unsupported"}),
    Case(code_of_cpm_kernels(61, 70), clears=("cpm.code",)),
    Case(compat_older_than_the_driver, {"cuda.compat": "cuda-compat-lib-conflict"}),
    Case(compat_on_a_consumer_card, {"cuda.compat": "cuda-compat-lib-conflict"}),
    Case(compat_on_a_data_centre_card, clears=("cuda.compat",)),
    Case(older_cublas_first, {"cuda.cublaslt": "cublaslt-symbol-conflict"}),
    Case(
        driver_and_toolkit,
        clears=(
            *("cuda.libcuda-version", "cuda.compat", "cuda.path", "cuda.linker-cache", "cuda.runtime"),
            *("cuda.cublaslt", "cuda.libcuda-chain", "cuda.libcuda-stub", "cuda.libcuda-load", "cuda.libcuda-link"),
            *("cpm.toolkit", "torch.driver"),
        ),
    ),
)
