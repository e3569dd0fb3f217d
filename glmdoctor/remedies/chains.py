"""Broken chains of libcuda and a linker cache that does not match: mended in place, or gone round by a private folder.

The link that is mended is the one that goes wrong, so that whatever leads to it (Debian's alternatives, a libcuda.so
beside it) stays as the packages made it.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence

from glmdoctor.actions import LINKER_CACHE, Action, PlaceLink, RefreshLinkerCache
from glmdoctor.findings import Chains, Finding, Mismatch, WrongDriver
from glmdoctor.host.facts import Library
from glmdoctor.messages import text
from glmdoctor.readings.driver import DRIVER_NAMES, SYSTEM_SOURCES, driver_file, driver_library, is_drivers, target
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies import links
from glmdoctor.remedies.plan import Options, Plan

SONAME = "libcuda.so.1"
PLAIN = ("libcuda.so", SONAME)  # names that are links on a healthy machine
DEFAULT_FOLDER = re.compile(r"(/usr)?/lib(64|/[\w-]+-linux-gnu)?")  # searched by the loader without its cache


def mend(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """Point the links that go wrong to the file of the running driver."""
    right, astray = driver_file(host), finding.payload
    if right is None or not isinstance(astray, Chains):
        return None
    # /lib and /usr/lib are one folder nearly everywhere, and the linker cache and ld.so.conf name it differently.
    wrong = list({path.removeprefix("/usr"): path for chain in astray.chains if (path := culprit(chain))}.values())
    if not wrong:
        return None
    if not all(options.may_write(posixpath.dirname(path)) for path in wrong):
        return around(finding, host, options)
    placed = tuple(PlaceLink(path, right) for path in wrong)
    actions: tuple[Action, ...] = (*placed, *_refresh(host, wrong))
    title = text("Point {names} to the running driver's file {file}", names=", ".join(wrong), file=right)
    return Plan("mend-libcuda-links", title, (finding.id,), actions, needs_root=True)


def part(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """Of two driver versions side by side, point the links to the one that the running module is of."""
    driver, found = maybe(host.kernel_driver), maybe(host.libraries) or ()
    fault = finding.payload
    side_by_side = isinstance(fault, WrongDriver) and fault.case is Mismatch.TWO_VERSIONS
    if not side_by_side or driver is None or driver.version is None:
        return None
    placed = {}
    for library in found:
        right = next((lib for lib in found if lib.name == library.name and _is_file_of(lib, driver.version)), None)
        wrong = library.name in DRIVER_NAMES and library.is_link and SYSTEM_SOURCES & set(library.found_by)
        path = culprit(library.chain) if wrong and library.version != driver.version else None
        if path and right and right.elf_class == library.elf_class:
            placed[path.removeprefix("/usr")] = PlaceLink(path, right.real or right.file)
    if not placed or not all(options.may_write(posixpath.dirname(link.path)) for link in placed.values()):
        return around(finding, host, options)
    names = ", ".join(link.path for link in placed.values())
    title = text("Point {names} to the files of the running module, {version}", names=names, version=driver.version)
    return Plan("part-driver-versions", title, (finding.id,), tuple(placed.values()), needs_root=True)


def _is_file_of(library: Library, version: str) -> bool:
    return library.version == version and library.fault is None and not library.stub and not library.is_link


def culprit(chain: Sequence[str]) -> str | None:
    """The path of a chain that has to change; None where a mere link cannot help."""
    last = chain[-1]
    if last in chain[:-1]:  # a loop
        return next((path for path in chain if posixpath.basename(path) == SONAME), chain[0])
    if posixpath.basename(last) in PLAIN:  # a file, or nothing at all, where a link belongs
        return last
    return chain[-2] if len(chain) > 1 else None


def _refresh(host: Machine, mended: Sequence[str]) -> tuple[RefreshLinkerCache, ...]:
    """Needed where a folder is searched by the cache alone and the cache does not know the name."""
    loader = maybe(host.loader)
    known = {entry.path for entry in loader.cache} if loader else set()
    unknown = [path for path in mended if posixpath.basename(path) == SONAME and path not in known]
    configured = [path for path in unknown if loader and posixpath.dirname(path) in loader.folders]
    asked = [path for path in configured if not DEFAULT_FOLDER.fullmatch(posixpath.dirname(path))]
    return (RefreshLinkerCache(),) if asked else ()


def refresh(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """Rebuild the linker cache, after the link that it would name; else go round it."""
    if not options.may_write(posixpath.dirname(LINKER_CACHE)):
        return around(finding, host, options) if driver_links(host, options.private) else None
    actions: tuple[Action, ...] = (*_missing_soname(host), RefreshLinkerCache())
    return Plan("refresh-linker-cache", text("Rebuild the linker cache"), (finding.id,), actions, needs_root=True)


def _missing_soname(host: Machine) -> tuple[PlaceLink, ...]:
    """libcuda.so.1 beside the driver's file, where a loader folder has the file alone."""
    file, loader = driver_file(host), maybe(host.loader)
    folder = posixpath.dirname(file or "")
    names = {lib.path for lib in maybe(host.libraries) or () if lib.fault is None}
    if not file or not loader or folder not in loader.folders or f"{folder}/{SONAME}" in names:
        return ()
    return (PlaceLink(f"{folder}/{SONAME}", file),)


def reach(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """Make libcuda.so.1 loadable by its name: by the cache where its folder is configured, else by a variable."""
    file, loader = driver_file(host), maybe(host.loader)
    configured = file and loader and posixpath.dirname(file) in loader.folders
    return refresh(finding, host, options) if configured else around(finding, host, options)


def private_driver(private: str) -> str:
    """A folder for LD_LIBRARY_PATH with the driver's libraries alone: toolkit libraries would displace torch's."""
    return posixpath.join(private, "driver")


def driver_links(host: Machine, private: str) -> tuple[PlaceLink, ...]:
    """The driver's libraries that lie here and that the loader does not find, or finds a wrong one of."""
    found = {name: driver_library(host, name) for name in DRIVER_NAMES if not _loader_is_right(host, f"lib{name}.so.1")}
    folder = private_driver(private)
    return tuple(PlaceLink(f"{folder}/lib{name}.so.1", target(library)) for name, library in found.items() if library)


def _loader_is_right(host: Machine, soname: str) -> bool:
    """Does the loader take the running driver's library for ``soname``?"""
    loader = maybe(host.loader)
    path = loader.resolved.get(soname) if loader else None
    found = next((lib for lib in maybe(host.libraries) or () if path in (lib.path, lib.file)), None)
    return bool(found and found.fault is None and is_drivers(found, host))


def around(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """For one who may not mend the system: private links, and the variables by which programs find them."""
    private = links.private_links(host, options.private) if "cuda" in links.wrong_names(host) else {}
    by_name = driver_links(host, options.private)
    if "cuda" not in private and not by_name:
        return None
    variables = {}
    if by_name:
        variables["LD_LIBRARY_PATH"] = joined(private_driver(options.private), host)
    if private:
        variables["CUDA_PATH"] = links.private_cuda(options.private)
    actions = (*by_name, *(link for found in private.values() for link in found))
    title = text("Link the running driver's libraries in a private folder, {folder}", folder=options.private)
    exports = tuple(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    return Plan("private-driver", title, (finding.id,), actions, variables, exports)


def joined(folder: str, host: Machine) -> str:
    """LD_LIBRARY_PATH with ``folder`` before what it holds."""
    loader = maybe(host.loader)
    present = loader.ld_library_path if loader else ()
    return ":".join(dict.fromkeys((folder, *present)))
