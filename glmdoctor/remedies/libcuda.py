"""libcuda, its links, what hides it, and the toolkit's folders and libraries."""

from __future__ import annotations

import shlex

from glmdoctor.findings import Finding, Mismatch, Owner, WrongDriver
from glmdoctor.messages import text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.readings.versions import numbers
from glmdoctor.remedies import chains, links, variables
from glmdoctor.remedies.answer import Answer, Case, Commands, Pip, Shell, as_root, by_host, root, shell
from glmdoctor.remedies.distribution import family, remove_packages
from glmdoctor.remedies.driver import driver

SYMLINK = "--symlink"
USER_SPACE = {"debian": "libcuda1 libnvidia-ml1", "fedora": "xorg-x11-drv-nvidia-cuda-libs", "arch": "nvidia-utils"}
REINSTALL = {"debian": "apt-get install --reinstall", "fedora": "dnf reinstall", "arch": "pacman -S"}


def reinstall_user_space(host: Machine) -> Commands:
    """The driver's own libraries anew; Ubuntu names the package by the driver's release."""
    os, module, kind = maybe(host.os), maybe(host.kernel_driver), family(host)
    if os and os.distribution == "ubuntu" and module and module.version:
        return root(f"apt-get install --reinstall libnvidia-compute-{module.version.split('.')[0]}")
    return root(f"{REINSTALL[kind]} {USER_SPACE[kind]}") if kind in REINSTALL else ()


def _module_runs(host: Machine) -> bool:
    module = maybe(host.kernel_driver)
    return bool(module and module.loaded)


def user_space(host: Machine) -> Commands:
    return reinstall_user_space(host) if _module_runs(host) else driver(host)


def reload_module() -> Commands:
    return root("modprobe -r nvidia_uvm nvidia_drm nvidia_modeset nvidia", "modprobe nvidia", "reboot")


def toolkit_wheels(host: Machine, *wanted: str) -> Commands:
    """NVIDIA's wheels of CUDA libraries for torch's release; since CUDA 13 their names carry none."""
    found = maybe(host.torch)
    major = numbers(found.cuda)[0] if found and found.cuda else 12
    suffix = f"-cu{major}" if major < 13 else ""
    return (Pip(tuple(f"nvidia-{name}{suffix}" for name in wanted)),)


def cpm_libraries(host: Machine) -> Commands:
    return (*toolkit_wheels(host, "cuda-nvrtc", "cuda-runtime", "cublas"), Shell("glmdoctor fix --symlink"))


def older_toolkit(host: Machine) -> Commands:
    """The newest installed toolkit of a release that the driver knows."""
    cuda, ceiling = maybe(host.cuda), maybe(host.ceiling)
    known = {folder: numbers(v)[:2] for folder, v in (cuda.toolkits if cuda else {}).items() if v}
    fitting = [folder for folder, version in known.items() if ceiling and version <= ceiling.cuda]
    best = max(fitting, key=lambda folder: known[folder], default=None)
    return (Shell(f"export CUDA_PATH={shlex.quote(best)}"),) if best else ()


def remove_linux_driver(finding: Finding, host: Machine) -> Commands:
    owner = finding.payload
    return remove_packages(host, (owner.package,)) if isinstance(owner, Owner) else ()


def mismatch(finding: Finding, host: Machine) -> Case:
    """Three causes, three remedies."""
    fault = finding.payload if isinstance(finding.payload, WrongDriver) else WrongDriver(Mismatch.UPGRADED)
    if fault.case is Mismatch.STRAY_FOLDER:
        return Case(fault.case.value, text("Take the folder out of LD_LIBRARY_PATH; no reboot is needed."), ())
    if fault.case is Mismatch.TWO_VERSIONS:
        title = text("Remove the packages of the version that the module is not of, or the files that no package owns.")
        return Case(fault.case.value, title, remove_packages(host, fault.packages))
    driver = maybe(host.kernel_driver)
    holders = [f"{process.name} ({process.pid})" for process in driver.holders] if driver else []
    title = text(
        "End the processes that hold the devices ({holders}), reload the module, or reboot.", holders=", ".join(holders)
    )
    free = text("Reload the module, or reboot.")
    return Case(fault.case.value, title if holders else free, reload_module())


ANSWERS = {
    "libcuda-not-in-cuda-path": Answer((links.plan_driver,), option=SYMLINK),
    "cpm-toolkit-libs-missing": Answer((links.plan_toolkit,), by_host(cpm_libraries), SYMLINK),
    "libcuda-stub-loaded": Answer((variables.drop_strays, links.plan_driver, chains.around), option=SYMLINK),
    "libcuda-link-broken": Answer((chains.mend,), by_host(reinstall_user_space), SYMLINK),
    "libcuda-so-missing": Answer((chains.reach,), by_host(user_space), SYMLINK),
    "linker-cache-stale": Answer((chains.refresh,), as_root("glmdoctor fix --symlink"), SYMLINK),
    "driver-library-mismatch": Answer((variables.drop_strays, chains.part), option=SYMLINK, case=mismatch),
    "cuda-compat-lib-conflict": Answer((variables.drop_strays, chains.around)),
    "wsl-libcuda-shadowed": Answer((variables.drop_strays, chains.around), remove_linux_driver, SYMLINK),
    "cublaslt-symbol-conflict": Answer((variables.drop_strays,), shell("unset LD_LIBRARY_PATH")),
    "cuda-path-wrong": Answer((variables.set_cuda_path,), option=SYMLINK),
    "cuda-runtime-so-missing": Answer(advice=by_host(lambda host: toolkit_wheels(host, "cuda-runtime"))),
    "ptx-newer-than-driver": Answer(advice=by_host(older_toolkit)),
}
