"""The variables that `glmdoctor run` and `chat` set, so that a program finds what the repairs left for it.

Decided anew from the facts each time: a private folder counts only while its links are those that would be made today.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from glmcore.folders import user_folder
from glmdoctor.actions import PlaceLink
from glmdoctor.host.facts import Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import IO, RealIO
from glmdoctor.remedies import chains, kernel, links, proxy, variables


def private_folder() -> str | None:
    """The doctor's own folder of this user; None where the user has no home."""
    return user_folder("data", "glmdoctor")


def repaired(host: Host) -> dict[str, str]:
    """Variables to set on top of the present ones; an empty value stands for a variable that is not wanted."""
    return {**settings(host), **_kernel(host)}


def settings(host: Host) -> dict[str, str]:
    """Those that hold for every program, and may stand in a shell's start file."""
    return {**libraries(host), **proxy.of(host, host.io.env())}


def applied(host: Host) -> Host:
    """The same machine as a program sees it that is started with the variables for the libraries."""
    variables = libraries(host)
    if not variables:
        return host
    return Host(RealIO(environ={**host.io.env(), **variables}), host.python, host.model, host.kernel_file)


def libraries(host: Host) -> dict[str, str]:
    """Those by which the CUDA libraries are found."""
    return {**_toolkit(host), **_private_cuda(host), **_loader(host)}


def _toolkit(host: Host) -> dict[str, str]:
    toolkit = variables.best_toolkit(host)
    return dict.fromkeys(variables.astray(host), toolkit) if toolkit else {}


def _private_cuda(host: Host) -> dict[str, str]:
    folder = private_folder()
    if folder is None:
        return {}
    private = links.private_links(host, folder)
    helps = links.unlinked_names(host) & private.keys() or variables.astray(host)
    if not helps or not _current(host.io, [link for found in private.values() for link in found]):
        return {}
    names = () if variables.best_toolkit(host) else variables.astray(host)
    return dict.fromkeys(("CUDA_PATH", *names), links.private_cuda(folder))


def _loader(host: Host) -> dict[str, str]:
    """LD_LIBRARY_PATH without strays, and with the private libcuda first where the loader finds no right one."""
    loader, strays, private = host.loader, variables.stray_folders(host), private_folder()
    if isinstance(loader, Unknown):
        return {}
    rest = [folder for folder in loader.ld_library_path if folder not in strays]
    if private and _current(host.io, chains.driver_links(host, private)):
        rest.insert(0, chains.private_driver(private))
    return {} if tuple(rest) == loader.ld_library_path else {variables.LD_PATH: ":".join(rest)}


def _kernel(host: Host) -> dict[str, str]:
    build = host.kernel_build
    if host.kernel_file or isinstance(build, Unknown) or not build.ok or build.path is None:
        return {}
    return {kernel.VARIABLE: build.path}


def _current(io: IO, wanted: Iterable[PlaceLink]) -> bool:
    """Is every link in place, and does each lead to something?"""
    found = list(wanted)
    return bool(found) and all(_in_place(io, link) for link in found)


def _in_place(io: IO, link: PlaceLink) -> bool:
    try:
        target = io.readlink(link.path)
    except OSError:
        return False
    return target == link.target and io.exists(posixpath.join(posixpath.dirname(link.path), target))
