"""The readings that repairs rest on: which libcuda is the driver's own, which toolkit libraries belong together."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from glmdoctor.host.facts import Library, Unknown

if TYPE_CHECKING:
    from glmdoctor.checks.base import Machine

T = TypeVar("T")
WSL_FOLDER = "/usr/lib/wsl/"
TOOLKIT_NAMES = ("cudart", "nvrtc", "cublasLt")
COMPANIONS = ("nvrtc-builtins",)  # opened by nvrtc by name, from its own folder
OWN_FOLDERS = ("/glmdoctor/cuda/", "/glmdoctor/driver/")  # links of an earlier repair, met through the variables
SYSTEM_SOURCES = {"loader-folder", "linker-cache", "driver-folder"}


def maybe(fact: T | Unknown) -> T | None:
    return None if isinstance(fact, Unknown) else fact


def usable(library: Library, host: Machine) -> bool:
    """A whole library for this processor, and not a link-time stub."""
    os = maybe(host.os)
    return library.fault is None and not library.stub and os is not None and library.machine == os.machine


def libraries(host: Machine, *names: str) -> list[Library]:
    """Usable libraries of these names, those that the doctor linked itself left out."""
    found = [lib for lib in maybe(host.libraries) or () if lib.name in names and usable(lib, host)]
    return [lib for lib in found if not any(folder in lib.path for folder in OWN_FOLDERS)]


def is_compat(library: Library) -> bool:
    """Of cuda-compat: another driver's libcuda, whatever its version says."""
    return any("/compat/" in path for path in library.chain)


def is_drivers(library: Library, host: Machine) -> bool:
    """Is this a library of the driver that runs? Without a running driver none is."""
    driver, os = maybe(host.kernel_driver), maybe(host.os)
    if os and os.wsl:
        return library.file.startswith(WSL_FOLDER)
    return bool(driver and driver.loaded and driver.version == library.version) and not is_compat(library)


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


@dataclass(frozen=True)
class Source:
    """Libraries of one toolkit release from one place: never mixed with another's."""

    place: str
    major: str
    libraries: Mapping[str, Library]

    def covers(self, names: Iterable[str]) -> set[str]:
        return set(names) & set(self.libraries)


def toolkit_source(host: Machine) -> Source | None:
    """The most complete source; among equals that of torch's CUDA release, then the one found first."""
    torch = maybe(host.torch)
    wanted = torch.cuda.split(".")[0] if torch and torch.cuda else None

    def rank(source: Source) -> tuple[int, bool]:
        return -len(source.covers(TOOLKIT_NAMES)), source.major != wanted

    return min((s for s in sources(host) if s.covers(TOOLKIT_NAMES)), key=rank, default=None)


def sources(host: Machine) -> list[Source]:
    """Toolkit libraries grouped by the place they came with and by their major release."""
    groups: dict[tuple[str, str], dict[str, Library]] = {}
    for library in libraries(host, *TOOLKIT_NAMES, *COMPANIONS):
        major = (library.version or "").split(".")[0]
        if major.isdigit():
            group = groups.setdefault((place_of(library), major), {})
            if library.name not in group or _better(library, group[library.name]):
                group[library.name] = library
    return [Source(place, major, found) for (place, major), found in groups.items()]


def place_of(library: Library) -> str:
    """The toolkit's folder, the site-packages folder, or the system folder that a library came with."""
    file = library.real or library.file
    wheel = re.match(r"(.*)/(?:nvidia/[^/]+|torch)/lib/", file)
    if wheel:
        return wheel.group(1)
    return re.sub(r"/(?:lib64|lib|targets/[^/]+/lib)$", "", posixpath.dirname(file))


def _better(library: Library, other: Library) -> bool:
    """The name that equals the SONAME lasts longer than a file with its full version."""
    return posixpath.basename(library.path) == library.soname != posixpath.basename(other.path)
