"""The driver's user-space libraries: which are its own, which the loader takes, and by which name to link to them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from glmdoctor.host.facts import Library
from glmdoctor.readings.machine import Machine, maybe

DRIVER_NAMES = ("cuda", "nvidia-ml")
WSL = "/usr/lib/wsl/"  # Windows' driver: libraries in lib, what they lead to in drivers
WSL_FOLDER = f"{WSL}lib"
OWN_FOLDERS = ("/glmdoctor/cuda/", "/glmdoctor/driver/")  # links of an earlier repair, met through the variables
SYSTEM_SOURCES = {"loader-folder", "linker-cache", "driver-folder"}


def driver_libraries(host: Machine) -> tuple[Library, ...]:
    """The driver's own user-space libraries, of whatever version."""
    libraries = maybe(host.libraries) or ()
    return tuple(lib for lib in libraries if lib.name in DRIVER_NAMES and lib.fault is None and not _beside_driver(lib))


def _beside_driver(library: Library) -> bool:
    """Is it none of the driver's: a link-time stub, a forward-compatibility package, a 32-bit twin, or Tegra's?"""
    # Tegra's libcuda belongs to a GPU that is on no PCI bus and to a driver inside the kernel.
    return library.stub or is_compat(library) or library.elf_class == 32 or "/tegra" in library.file


def is_compat(library: Library) -> bool:
    """Does it belong to cuda-compat, NVIDIA's libcuda for running newer CUDA on an older data-centre driver?"""
    return any("/compat/" in path or "/compat_orig/" in path for path in library.chain)


def from_windows(library: Library) -> bool:
    """Does its name or its file lie where Windows' driver is laid into WSL?"""
    return any(path.startswith(WSL) for path in library.chain)


def is_drivers(library: Library, host: Machine) -> bool:
    """Is this a library of the driver that runs? Without a running driver none is."""
    driver, os = maybe(host.kernel_driver), maybe(host.os)
    if os and os.wsl:
        return from_windows(library)
    runs = driver and driver.loaded and driver.version == library.version
    return bool(runs) and not _beside_driver(library)


def usable(library: Library, host: Machine) -> bool:
    """A whole library for this processor, and not a link-time stub."""
    os = maybe(host.os)
    return library.fault is None and not library.stub and os is not None and library.machine == os.machine


def libraries(host: Machine, *names: str) -> list[Library]:
    """Usable libraries of these names, those that the doctor linked itself left out."""
    found = [lib for lib in maybe(host.libraries) or () if lib.name in names and usable(lib, host)]
    return [lib for lib in found if not any(folder in lib.path for folder in OWN_FOLDERS)]


def driver_library(host: Machine, name: str = "cuda") -> Library | None:
    """The name by which to link to the driver's own library: a system's SONAME that is right, else the file."""
    found = [lib for lib in libraries(host, name) if is_drivers(lib, host)]

    def rank(library: Library) -> tuple[bool, bool, bool]:
        by_soname = posixpath.basename(library.path) == library.soname
        return not SYSTEM_SOURCES & set(library.found_by), not by_soname, library.is_link

    return min(found, key=rank, default=None)


def target(library: Library) -> str:
    """What a link to a library says: the name that outlives an update, where there is one, else the file."""
    lasting = posixpath.basename(library.path) == library.soname
    return library.path if lasting else library.real or library.file


def driver_file(host: Machine) -> str | None:
    """The file at the end of it; what a name of the chain may be pointed to without closing a loop."""
    library = driver_library(host)
    return library.real or library.file if library else None


def loaded_as(host: Machine, soname: str) -> Library | None:
    """The library that the dynamic loader takes for ``soname``."""
    loader = maybe(host.loader)
    path = loader.resolved.get(soname) if loader else None
    return at(maybe(host.libraries) or (), path) if path else None


def at(libraries: Iterable[Library], path: str) -> Library | None:
    """The library called ``path``; /lib and /usr/lib count as one, as they are one folder nearly everywhere."""
    wanted = path.removeprefix("/usr")
    return next(
        (lib for lib in libraries if wanted in (lib.path.removeprefix("/usr"), lib.file.removeprefix("/usr"))), None
    )


def driver_version(library: Library) -> str | None:
    """The driver version that a library's file name carries ("535.183.01"), not a mere SONAME number."""
    return library.version if re.fullmatch(r"\d{2,4}\.\d+(\.\d+)?", library.version or "") else None


def folder(library: Library) -> str:
    return posixpath.dirname(library.path)


def name(library: Library) -> str:
    return posixpath.basename(library.path)
