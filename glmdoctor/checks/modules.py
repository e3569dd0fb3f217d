"""A kernel module that lies on the disk and is not loaded: built for another kernel, or refused for its signature."""

from __future__ import annotations

from glmdoctor.checks.base import Machine, bad, maybe
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import KernelDriver
from glmdoctor.messages import Text, text

# Modules that a distribution offers to later kernels as well, by links; their symbols' checksums decide.
SHARED = "/weak-updates/"


def refused(host: Machine, driver: KernelDriver) -> Finding | None:
    """Why the kernel does not take NVIDIA's module, where that can be told."""
    return _foreign(host, driver) or _unsigned(host, driver)


def _foreign(host: Machine, driver: KernelDriver) -> Finding | None:
    os, log = maybe(host.os), maybe(host.kernel_log)
    kernel = os.kernel if os else "?"
    told = [file for file in driver.modules if file.kernel and SHARED not in file.path]
    built_for = sorted({file.kernel for file in told if file.kernel})
    if told and len(told) == len(driver.modules) and kernel not in built_for:
        detail = text(
            "{file} was built for kernel {built_for}; {kernel} runs.",
            file=told[0].path,
            built_for=", ".join(built_for),
            kernel=kernel,
        )
    elif not driver.modules and driver.other_kernels:
        detail = text(
            "There is an nvidia.ko for {others}, but none for {kernel}, which runs.",
            others=", ".join(driver.other_kernels),
            kernel=kernel,
        )
    elif log and log.foreign:
        detail = text("The kernel's log ({source}): {line}", source=log.source, line=log.foreign[-1])
    else:
        return None
    return bad(
        Status.FAIL,
        "kernel-module-mismatch",
        text("The NVIDIA module is for another kernel"),
        detail,
        kernel=kernel,
        files={file.path: file.kernel for file in driver.modules},
        other_kernels=list(driver.other_kernels),
        log=list(log.foreign) if log else [],
    )


def _unsigned(host: Machine, driver: KernelDriver) -> Finding | None:
    """By the log; without it by Secure Boot beside a module that has no signature, or that of an unknown key."""
    guards, log = maybe(host.guards), maybe(host.kernel_log)
    if not driver.modules or guards is None or guards.signatures_required is False:
        return None
    lines, file = log.unsigned if log else (), driver.modules[0].path
    detail: Text
    if lines:
        detail = text("The kernel's log: {line}", line=lines[-1])
    elif not guards.secure_boot:
        return None
    elif all(module.signed is False for module in driver.modules):
        detail = text("Secure Boot is on, and {file} has no signature.", file=file)
    elif guards.key_enrolled is False and all("/dkms/" in module.path for module in driver.modules):
        detail = text("Secure Boot is on, and the key by which DKMS signed {file} is not enrolled.", file=file)
    else:
        return None
    return bad(
        Status.FAIL,
        "secure-boot-module-rejected",
        text("Secure Boot refuses the NVIDIA module"),
        detail,
        secure_boot=guards.secure_boot,
        signed={module.path: module.signed for module in driver.modules},
        key_enrolled=guards.key_enrolled,
        log=list(lines),
    )
