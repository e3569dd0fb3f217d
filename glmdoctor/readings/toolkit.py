"""The toolkits of CUDA on this machine: which libraries belong together, and which toolkit is the best."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from glmdoctor.host.facts import CudaInstall, Library
from glmdoctor.readings.driver import libraries
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.readings.versions import numbers

TOOLKIT_NAMES = ("cudart", "nvrtc", "cublasLt")
COMPANIONS = ("nvrtc-builtins",)  # opened by nvrtc by name, from its own folder


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


def best_toolkit(host: Machine) -> str | None:
    """The installed toolkit of torch's CUDA release, else the default one, else the newest."""
    install, torch = maybe(host.cuda), maybe(host.torch)
    if install is None:
        return None
    major = numbers(torch.cuda)[:1] if torch and torch.cuda else ()
    whole = {folder: version for folder, version in install.toolkits.items() if install.folders.get(folder, True)}

    def rank(folder: str) -> tuple[bool, bool, tuple[int, ...]]:
        version = numbers(whole[folder])
        return bool(major) and version[:1] == major, _is_default(folder, install), version

    return max(whole, key=rank, default=None)


def _is_default(folder: str, install: CudaInstall) -> bool:
    return folder in (install.default, install.default_target)
