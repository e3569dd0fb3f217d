"""The driver's two halves: the kernel module that runs and the user-space libraries that programs load.

Three causes need three remedies: the packages were upgraded under the running module (reload it or reboot), two
user-space versions lie side by side (remove one), or a folder in LD_LIBRARY_PATH brings its own copy (drop it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import OUT_OF_REACH
from glmdoctor.checks.libcuda import LINK_BROKEN, gone_round
from glmdoctor.checks.nvml import MISMATCH
from glmdoctor.findings import Chains, Finding, Mismatch, Status, WrongDriver
from glmdoctor.host.facts import KernelDriver, Library, Nvml
from glmdoctor.messages import Text, text
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.driver import driver_libraries, driver_version, folder, is_compat, loaded_as
from glmdoctor.readings.versions import numbers

TITLE = text("Kernel module and driver libraries")
COMPAT = text("Forward-compatibility libcuda")
LINK = text("Version of libcuda")
SONAMES = ("libnvidia-ml.so.1", "libcuda.so.1")
CONSUMER_CARDS = ("GeForce", "TITAN", "RTX 20", "RTX 30", "RTX 40", "RTX 50")


@dataclass(frozen=True)
class Reading:
    """What the loader takes for the driver's libraries, beside the version of the running module."""

    module: str
    used: tuple[Library, ...]
    others: tuple[Library, ...]  # every driver library on the machine that names its version

    @property
    def wrong(self) -> tuple[Library, ...]:
        return tuple(lib for lib in self.used if driver_version(lib) not in (None, self.module))

    def right(self, name: str) -> tuple[Library, ...]:
        """Files of the module's own version that programs would find without LD_LIBRARY_PATH."""
        return tuple(lib for lib in self.others if lib.name == name and driver_version(lib) == self.module)

    @property
    def only_libcuda(self) -> bool:
        """Is a mere link of libcuda wrong, while its right file is there and NVML's library agrees with the module?"""
        return bool(self.wrong) and all(
            lib.name == "cuda" and not _stray(lib) and self.right("cuda") for lib in self.wrong
        )


def read(host: Machine, driver: KernelDriver) -> Reading:
    loaded = [lib for soname in SONAMES if (lib := loaded_as(host, soname))]
    used = tuple(lib for lib in loaded if lib.fault is None and not lib.stub and not is_compat(lib))
    others = tuple(lib for lib in driver_libraries(host) if driver_version(lib))
    return Reading(driver.version or "", used, others)


def mismatch(host: Machine) -> Iterator[Finding]:
    driver, nvml = known(host.kernel_driver), maybe(host.nvml)
    if not driver.loaded or not driver.version or not has_card(host):
        yield skipped(TITLE, text("The NVIDIA kernel module is not loaded, or not for this container."))
        return
    reading = read(host, driver)
    refused = nvml is not None and nvml.code == MISMATCH
    if (reading.wrong and not reading.only_libcuda) or (refused and not reading.wrong):
        yield _mismatch(driver, reading, nvml)
    elif reading.wrong:
        yield ok(TITLE, text("NVML's library agrees with the module {version}.", version=driver.version))
    else:
        yield ok(
            TITLE, text("Both are {version}.", version=driver.version), module=driver.version, libraries=_files(reading)
        )


def _mismatch(driver: KernelDriver, reading: Reading, nvml: Nvml | None) -> Finding:
    case, title, detail = _case(driver, reading, nvml)
    files = _files(reading)
    owners = {lib.file: lib.owner for lib in reading.others if lib.owner}
    right = files.get(reading.module, [])
    return bad(
        Status.FAIL,
        "driver-library-mismatch",
        title,
        detail,
        WrongDriver(case, tuple(owner for file, owner in owners.items() if file not in right)),
        case=case.value,
        module=driver.version,
        libraries={lib.file: driver_version(lib) for lib in reading.wrong},
        by_version=files,
        owners=owners,
        installed_modules=list(driver.installed_versions),
        holders=[f"{process.name} ({process.pid})" for process in driver.holders],
        folders=sorted({folder(lib) for lib in reading.wrong if _stray(lib)}),
    )


def _case(driver: KernelDriver, reading: Reading, nvml: Nvml | None) -> tuple[Mismatch, Text, Text]:
    strays = [lib for lib in reading.wrong if _stray(lib)]
    found = ", ".join(sorted({driver_version(lib) or "" for lib in reading.wrong}))
    found = found or (nvml.library_version if nvml else None) or "?"
    works_without = nvml is not None and nvml.code_without_ld_library_path == 0
    if works_without or (strays and all(reading.right(lib.name) for lib in strays)):
        return (
            Mismatch.STRAY_FOLDER,
            text("LD_LIBRARY_PATH brings another driver's libraries"),
            _stray_words(driver, strays, found),
        )
    if any(reading.right(lib.name) for lib in reading.wrong):
        return Mismatch.TWO_VERSIONS, text("Two driver versions side by side"), _two_words(driver, reading, found)
    title = text("Driver upgraded under the running kernel module")
    return Mismatch.UPGRADED, title, _upgraded_words(driver, found)


def _stray_words(driver: KernelDriver, strays: Sequence[Library], found: str) -> Text:
    return text(
        "The module is {module} and its libraries are there, but {folders} in LD_LIBRARY_PATH comes first with "
        "{found}. Take the folder out; no reboot is needed.",
        module=driver.version,
        folders=", ".join(sorted({folder(lib) for lib in strays})) or "?",
        found=found,
    )


def _two_words(driver: KernelDriver, reading: Reading, found: str) -> Text:
    owners = {lib.file: f" [{lib.owner}]" for lib in reading.others if lib.owner}
    groups = _files(reading).items()
    return text(
        "The module is {module}, programs load libraries of {found}, and files of both lie here: {files}. "
        "Remove the packages of the wrong one.",
        module=driver.version,
        found=found,
        files="; ".join(f"{version}: {', '.join(f + owners.get(f, '') for f in files)}" for version, files in groups),
    )


def _upgraded_words(driver: KernelDriver, found: str) -> Text:
    return text(
        "The running module is {module}, the libraries are {found}. Reload the module or reboot{holders}{lacking}.",
        module=driver.version,
        found=found,
        holders=_holders(driver),
        # A reboot is of no use while the module of the new version was not built for this kernel.
        lacking=text("; first a module {found} must be built for this kernel", found=found)
        if driver.installed_versions and found not in driver.installed_versions
        else "",
    )


def _holders(driver: KernelDriver) -> Text | str:
    if not driver.holders:
        return ""
    names = ", ".join(f"{process.name} ({process.pid})" for process in driver.holders[:8])
    return text("; these processes hold the devices and have to end before a reload: {names}", names=names)


def _stray(library: Library) -> bool:
    return "LD_LIBRARY_PATH" in library.found_by and not set(library.found_by) & {"loader-folder", "linker-cache"}


def _files(reading: Reading) -> dict[str, list[str]]:
    """Version → the files that belong to it, the files that are used first of all; each file under one name.

    Where /lib is a link to /usr/lib, the loader's folders reach every file twice.
    """
    files: dict[str, dict[str, str]] = {}
    for lib in (*reading.used, *reading.others):
        version = driver_version(lib)
        if version:
            files.setdefault(version, {}).setdefault(lib.real or lib.file, lib.file)
    return {version: list(named.values()) for version, named in files.items()}


def link_version(host: Machine) -> Iterator[Finding]:
    """Links to libcuda that lead to another version than the module's, though the right file is there."""
    driver = known(host.kernel_driver)
    if not driver.loaded or not driver.version or not has_card(host):
        yield skipped(LINK, text("The NVIDIA kernel module is not loaded, or not for this container."))
        return
    reading = read(host, driver)
    right = reading.right("cuda")
    links = [lib for lib in reading.others if lib.name == "cuda" and lib.is_link and not _stray(lib)]
    wrong = [lib for lib in links if driver_version(lib) != driver.version]
    if not wrong or not right:
        yield ok(LINK, text("No link leads to a libcuda of another version than {version}.", version=driver.version))
        return
    used = loaded_as(host, "libcuda.so.1")
    if used is not None and driver_version(used) == driver.version and gone_round(host):
        detail = text("{link} leads to another driver's file, but programs here are led round it.", link=wrong[0].path)
        yield ok(LINK, detail, chains={lib.path: list(lib.chain) for lib in wrong})
        return
    yield bad(
        Status.FAIL,
        LINK_BROKEN,
        text("libcuda leads to another driver's file"),
        text(
            "{link} leads to {file} (version {found}), but the running module is {module}; its own file is {right}.",
            link=wrong[0].path,
            file=wrong[0].file,
            found=driver_version(wrong[0]),
            module=driver.version,
            right=right[0].file,
        ),
        Chains(tuple(lib.chain for lib in wrong)),
        chains={lib.path: list(lib.chain) for lib in wrong},
        module=driver.version,
        right=right[0].file,
        fault="wrong-version",
    )


def compat(host: Machine) -> Iterator[Finding]:
    driver, library = known(host.kernel_driver), loaded_as(host, "libcuda.so.1")
    if library is None or not is_compat(library) or not driver.version or not has_card(host):
        yield ok(COMPAT, text("Programs load the driver's own libcuda, not that of cuda-compat."))
        return
    version = driver_version(library)
    evidence = {"library": library.file, "version": version, "module": driver.version}
    if version and numbers(version) < numbers(driver.version):
        detail = text(
            "{file} ({version}) of cuda-compat is older than the driver {module}; cuInit answers 803.",
            file=library.file,
            version=version,
            module=driver.version,
        )
    elif consumer := _consumer_card(host):
        detail = text(
            "{file} of cuda-compat comes first, but {card} is no data-centre card; cuInit answers 804.",
            file=library.file,
            card=consumer,
        )
    else:
        yield ok(COMPAT, text("{file} is used; data-centre cards allow it.", file=library.file), **evidence)
        return
    yield bad(
        Status.FAIL, "cuda-compat-lib-conflict", text("A forward-compatibility libcuda comes first"), detail, **evidence
    )


def _consumer_card(host: Machine) -> str | None:
    nvml = maybe(host.nvml)
    names = [gpu.name for gpu in nvml.gpus] if nvml else []
    return next((name for name in names if any(word in name for word in CONSUMER_CARDS)), None)


CHECKS = (
    Check(
        "driver.version",
        TITLE,
        mismatch,
        problems=("driver-library-mismatch",),
        needs=("kernel_driver", "libraries", "loader"),
        explained_by=("cuda-compat-lib-conflict", *OUT_OF_REACH),
    ),
    Check(
        "cuda.libcuda-version",
        LINK,
        link_version,
        problems=(LINK_BROKEN,),
        needs=("kernel_driver", "libraries", "loader"),
        explained_by=("driver-library-mismatch",),
    ),
    Check(
        "cuda.compat",
        COMPAT,
        compat,
        problems=("cuda-compat-lib-conflict",),
        needs=("kernel_driver", "libraries", "loader"),
    ),
)
