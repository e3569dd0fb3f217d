"""What the driver's own libraries answer: NVML, and the CUDA ceiling of libcuda. Each is asked in a child process.

As root, ``nvmlInit`` and ``cuInit`` create /dev/nvidiactl even where no driver exists, so NVML is called as root only
where the kernel module is loaded, and ``cuInit`` never; ``cuDriverGetVersion`` has no effect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmcore import programs
from glmcore.folders import is_root, who_else
from glmdoctor.host.facts import (
    DriverCeiling,
    GpuLink,
    GpuMemoryFaults,
    GpuProcess,
    KernelDriver,
    Loader,
    Nvml,
    NvmlGpu,
    Unknown,
)
from glmdoctor.host.io import IO
from glmdoctor.host.probes import elf

CHILD = Path(__file__).resolve().parent.parent / "child"
# The others need the standard library alone.
WITH_PACKAGES = ("interpreter.py", "nvml.py", "gpu_run.py", "kernel_run.py", "openmp_run.py")
SONAME = "libnvidia-ml.so.1"
LIBCUDA = "libcuda.so.1"
TIME_LIMIT = 10.0  # seconds; a healthy nvmlInit of 8 sleeping cards takes 2 to 3
NOT_LOADED, NOT_FOUND, MISMATCH = 9, 12, 18
STUB_ERROR = 34


def nvml(io: IO, kernel_driver: KernelDriver | Unknown, loader: Loader | Unknown) -> Nvml | Unknown:
    if io.system == "Windows":
        return _ask(io, None, io.env())
    if isinstance(loader, Unknown):
        return loader
    path = loader.resolved.get(SONAME)
    if path is None:
        return Nvml(NOT_FOUND, "NVML Shared Library Not Found", None, None, None, asked=False)
    header = elf.read(io, path)
    if header is None or header.fault:
        return Nvml(NOT_FOUND, f"{path} cannot be loaded", path, None, None, asked=False)
    doubt = not_for_root(io, path)
    if doubt:
        return Unknown(doubt)
    if not _may_ask(io, kernel_driver):
        return Nvml(NOT_LOADED, "Driver Not Loaded", path, None, None, asked=False)
    answer = _ask(io, path, io.env())
    if isinstance(answer, Unknown) or answer.code != MISMATCH or not loader.ld_library_path:
        return answer
    without = {name: value for name, value in io.env().items() if name != "LD_LIBRARY_PATH"}
    again = _ask(io, path, without)
    code = again.code if isinstance(again, Nvml) else None
    return Nvml(**{**vars(answer), "code_without_ld_library_path": code})


def not_for_root(io: IO, path: str) -> str | None:
    """Why root does not load a library, as one that LD_LIBRARY_PATH finds in another user's folder; None if it may."""
    doubt = who_else(os.path.realpath(path)) if is_root() and io.root == "/" else None
    return f"{path} is not loaded as root: {doubt}" if doubt else None


def _may_ask(io: IO, driver: KernelDriver | Unknown) -> bool:
    """Where nvmlInit creates nothing: a driver is loaded, this is WSL's, or the process may not create nodes."""
    loaded = isinstance(driver, KernelDriver) and driver.loaded
    return loaded or io.exists("/dev/dxg") or not hasattr(os, "geteuid") or os.geteuid() != 0


def _ask(io: IO, path: str | None, env: Mapping[str, str]) -> Nvml | Unknown:
    # In a fake root the loader of the running system would not find the file, so it is opened beforehand by path, and
    # root is given up, because the running system's /dev is not the fake root's.
    inside = io.root != "/"
    arguments = {"preload": io.place(path) if inside and path else None, "drop_root": inside}
    answer = child(io, "nvml.py", arguments, env)
    if isinstance(answer, Unknown):
        return Unknown(f"NVML: {answer.reason}")
    gpus = tuple(_gpu(row) for row in answer["gpus"])
    return Nvml(
        code=answer["code"],
        message=answer["message"],
        library=path if inside else answer["library"],
        library_version=answer["library_version"],
        driver_version=answer["driver_version"],
        gpus=gpus,
    )


def _gpu(row: Mapping[str, Any]) -> NvmlGpu:
    capability, link, faults = row["compute_capability"], row.get("link"), row.get("memory_faults")
    made = {
        "compute_capability": tuple(capability) if capability else None,
        "slowed_by": tuple(row.get("slowed_by", ())),
        "link": GpuLink(**link) if link else None,
        "memory_faults": GpuMemoryFaults(**faults) if faults else None,
        "processes": tuple(GpuProcess(**process) for process in row.get("processes", ())),
    }
    return NvmlGpu(**{**row, **made})


def ceiling(io: IO, loader: Loader | Unknown) -> DriverCeiling | Unknown:
    if io.system == "Windows":
        return _ceiling(io, "nvcuda.dll")
    if isinstance(loader, Unknown):
        return loader
    path = loader.resolved.get(LIBCUDA)
    if path is None:
        return Unknown("no libcuda.so.1 on the loader's path")
    header = elf.read(io, path)
    if header is None or header.fault:
        return Unknown(f"{path} cannot be loaded: {header.fault if header else 'missing'}")
    doubt = not_for_root(io, path)
    return Unknown(doubt) if doubt else _ceiling(io, path)


def _ceiling(io: IO, path: str) -> DriverCeiling | Unknown:
    answer = child(io, "ceiling.py", {"library": io.place(path)}, io.env())
    if isinstance(answer, Unknown):
        return Unknown(f"cuDriverGetVersion: {answer.reason}")
    if answer["code"] == STUB_ERROR:
        return Unknown(f"{path} is a stub library (error {STUB_ERROR})")
    if answer["code"] != 0:
        return Unknown(f"cuDriverGetVersion of {path}: {answer['message']}")
    return DriverCeiling(cuda=(answer["version"] // 1000, answer["version"] % 1000 // 10), library=path)


def child(
    io: IO,
    script: str,
    arguments: Mapping[str, object],
    env: Mapping[str, str] | None = None,
    python: str | None = None,
    limit: float | None = None,
) -> dict[str, Any] | Unknown:
    """Run a script of host/child with JSON on both sides."""
    done = io.run(command(script, python), limit or TIME_LIMIT, env, json.dumps(arguments))
    if done.code != 0:
        last = done.err.strip().splitlines()
        return Unknown(f"{last[-1] if last else 'no output'} (exit status {done.code})")
    try:
        answer = json.loads(done.out.splitlines()[-1])
    except (ValueError, IndexError):
        return Unknown("the child process printed no answer")
    return answer if isinstance(answer, dict) else Unknown("the child process printed something else")


def command(script: str, python: str | None = None) -> tuple[str, ...]:
    """How a script of host/child is started, in the doctor's own Python unless one is given."""
    python, path = python or programs.own_python(), str(CHILD / script)
    if script in WITH_PACKAGES:
        return tuple(programs.with_packages(python, path, flags=["-B"]))
    return tuple(programs.isolated(python, path))
