"""The plain names that cpm_kernels and others look for, linked to the driver's libcuda and to one toolkit's libraries.

As one who may write there, in $CUDA_PATH/lib64 or /usr/local/cuda/lib64; else, or where that would mix two releases,
in a private CUDA_PATH of this user.
"""

from __future__ import annotations

import posixpath
import shlex

from glmdoctor.actions import PlaceLink
from glmdoctor.findings import Finding
from glmdoctor.host.facts import CpmHit, CudaInstall, Library
from glmdoctor.messages import text
from glmdoctor.readings.driver import driver_library, is_drivers, libraries, target
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.readings.toolkit import COMPANIONS, TOOLKIT_NAMES, place_of, sources, toolkit_source
from glmdoctor.remedies.plan import Options, Plan

NAMES = ("cuda", *TOOLKIT_NAMES)
CHECK = "cuda.libcuda-link"


def plan_driver(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """One plan for everything that the search of cpm_kernels gets wrong, where that answers a wrong libcuda."""
    return _plan(finding, host, options, {"cuda"})


def plan_toolkit(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """The same plan, where it answers wrong libraries of the toolkit."""
    return _plan(finding, host, options, set(TOOLKIT_NAMES))


def _plan(finding: Finding, host: Machine, options: Options, names: set[str]) -> Plan | None:
    wrong = wrong_names(host)
    needed = wrong & names
    system, private = system_links(host, options, wrong), private_links(host, options.private)
    best = max((system, private), key=lambda links: len(wrong & links.keys()))  # the system's where both do
    if not needed or not needed <= best.keys():
        return None
    return _system_plan(finding.id, best) if best is system else private_plan(finding.id, host, options)


def complete(host: Machine, options: Options) -> Plan | None:
    """The plain names that are not there, asked for by the user: what works by a mere SONAME works for others then."""
    unlinked = unlinked_names(host)
    system = system_links(host, options, unlinked)
    if driver_library(host) is None or not unlinked:
        return None
    return _system_plan(CHECK, system) if system else private_plan(CHECK, host, options)


def _system_plan(finding: str, links: dict[str, list[PlaceLink]]) -> Plan:
    actions = tuple(link for found in links.values() for link in found)
    folder = posixpath.dirname(actions[0].path)
    title = text("Link {names} in {folder}", names=_plain(links), folder=folder)
    return Plan("link-libraries", title, (finding,), actions, needs_root=True)


def private_plan(finding: str, host: Machine, options: Options) -> Plan:
    links, folder = private_links(host, options.private), private_cuda(options.private)
    title = text("Make a private CUDA_PATH, {folder}, with links to {names}", folder=folder, names=_plain(links))
    actions = tuple(link for found in links.values() for link in found)
    export = f"export CUDA_PATH={shlex.quote(folder)}"
    return Plan("private-cuda-path", title, (finding,), actions, {"CUDA_PATH": folder}, (export,))


def _plain(links: dict[str, list[PlaceLink]]) -> str:
    return ", ".join(f"lib{name}.so" for name in links if name in NAMES)


def wrong_names(host: Machine) -> set[str]:
    """The libraries for which the search of cpm_kernels gives nothing, or nothing that can be used."""
    cpm = maybe(host.cpm)
    return {hit.library for hit in cpm.hits if not _right(hit, host)} if cpm else set()


def unlinked_names(host: Machine) -> set[str]:
    """Those, and the libraries that it finds by their SONAME alone, as programs with other rules would not."""
    cpm = maybe(host.cpm)
    by_soname = {hit.library for hit in cpm.hits if hit.rule == "find_library"} if cpm else set()
    return wrong_names(host) | by_soname


def _right(hit: CpmHit, host: Machine) -> bool:
    if not hit.path or hit.loads is False or hit.stub:
        return False
    if hit.library != "cuda":
        return True
    library = next((lib for lib in maybe(host.libraries) or () if hit.path in (lib.path, lib.file)), None)
    return library is None or driver_library(host) is None or is_drivers(library, host)


def private_cuda(private: str) -> str:
    return posixpath.join(private, "cuda")


def private_links(host: Machine, private: str) -> dict[str, list[PlaceLink]]:
    """The links of a private CUDA_PATH: plain names, and the SONAMEs by which the libraries ask for each other."""
    folder = posixpath.join(private_cuda(private), "lib64")
    driver, source = driver_library(host), toolkit_source(host)
    links = {}
    if driver:
        links["cuda"] = [PlaceLink(f"{folder}/{name}", target(driver)) for name in ("libcuda.so", "libcuda.so.1")]
    for name, library in source.libraries.items() if source else ():
        plain = f"lib{name}.so"
        soname = library.soname if (library.soname or "").startswith(plain) else None
        wanted = (soname,) if name in COMPANIONS else (plain, soname)
        links[name] = [PlaceLink(f"{folder}/{link}", target(library)) for link in wanted if link]
    return links


def system_links(host: Machine, options: Options, wrong: set[str]) -> dict[str, list[PlaceLink]]:
    """The plain names that the folder lacks, as far as the driver and this very toolkit have them."""
    install = maybe(host.cuda)
    toolkit = _system_toolkit(install, options) if install else None
    if install is None or toolkit is None:
        return {}
    folder, driver = f"{toolkit}/lib64", driver_library(host)
    found = {"cuda": driver} if driver else {}
    found.update(_own_libraries(host, toolkit, install))
    return {
        name: [PlaceLink(f"{folder}/lib{name}.so", target(found[name]))]
        for name in NAMES
        if name in wrong and name in found
    }


def _system_toolkit(install: CudaInstall, options: Options) -> str | None:
    """The toolkit folder that cpm_kernels looks into first, where this user may write to its lib64."""
    for toolkit in (install.cuda_path, install.default):
        if toolkit and install.folders.get(toolkit) and toolkit != private_cuda(options.private):
            return toolkit if options.may_write(f"{toolkit}/lib64") else None
    return None


def _own_libraries(host: Machine, toolkit: str, install: CudaInstall) -> dict[str, Library]:
    """What the toolkit itself has, whatever its folder is called."""
    below = [lib for lib in libraries(host, *TOOLKIT_NAMES) if lib.path.startswith(toolkit + "/")]
    places = {toolkit, *(place_of(lib) for lib in below)}
    if toolkit == install.default and install.default_target:
        places.add(install.default_target)
    own = [source for source in sources(host) if source.place in places]
    best = max(own, key=lambda source: len(source.covers(TOOLKIT_NAMES)), default=None)
    return {name: lib for name, lib in best.libraries.items() if name in TOOLKIT_NAMES} if best else {}
