"""The checks: every question that the doctor asks, one module per subject, and the examination that asks them."""

from __future__ import annotations

from collections.abc import Iterable

from glmdoctor.checks import (
    accelerators,
    apple,
    bitsandbytes,
    checkpoint,
    compiled,
    compiler,
    configuration,
    containers,
    contents,
    cpm,
    cuda_path,
    cxx,
    deep,
    driver,
    fit,
    gpu_faults,
    gpu_health,
    hub,
    kills,
    libcuda,
    linker,
    mismatch,
    nvml,
    own_code,
    packages,
    plugins,
    remote_code,
    resolution,
    shapes,
    system,
    torch,
    wsl,
)
from glmdoctor.checks.base import Check, Machine
from glmdoctor.checks.engine import UnknownCheck, examine_with, select
from glmdoctor.findings import Report

__all__ = ["ALL", "Check", "Machine", "UnknownCheck", "every", "examine", "select"]

ALL: tuple[Check, ...] = (
    *system.CHECKS,
    *kills.CHECKS,
    *driver.CHECKS,
    *containers.CHECKS,
    *nvml.CHECKS,
    *mismatch.CHECKS,
    *wsl.CHECKS,
    *accelerators.CHECKS,
    *cuda_path.CHECKS,
    *linker.CHECKS,
    *libcuda.CHECKS,
    *cpm.CHECKS,
    *torch.CHECKS,
    *gpu_faults.CHECKS,
    *gpu_health.CHECKS,
    *packages.CHECKS,
    *resolution.CHECKS,
    *cxx.CHECKS,
    *bitsandbytes.CHECKS,
    *hub.CHECKS,
    *compiler.CHECKS,
    *compiled.CHECKS,
    *checkpoint.CHECKS,
    *contents.CHECKS,
    *shapes.CHECKS,
    *configuration.CHECKS,
    *fit.CHECKS,
    *apple.CHECKS,
    *remote_code.CHECKS,
    *own_code.CHECKS,
    *deep.CHECKS,
)


def every() -> tuple[Check, ...]:
    """Our checks, and those that installed plugins bring."""
    return (*ALL, *plugins.found(frozenset(check.id for check in ALL)))


def examine(host: Machine, only: Iterable[str] = (), skip: Iterable[str] = (), deep: bool = False) -> Report:
    """Run the chosen checks on ``host``. Raises ``UnknownCheck`` before anything is read where an id is not known."""
    return examine_with(select(every(), only, skip, deep), host)
