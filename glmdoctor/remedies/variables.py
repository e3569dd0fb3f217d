"""Variables that lead programs astray, set right for `glmdoctor run` and `chat`, with a line to copy for the shell."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import replace

from glmdoctor.actions import PlaceLink
from glmdoctor.findings import Finding
from glmdoctor.host.facts import Library
from glmdoctor.messages import text
from glmdoctor.readings.driver import DRIVER_NAMES, is_compat
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.readings.toolkit import best_toolkit
from glmdoctor.readings.versions import numbers
from glmdoctor.remedies.links import private_cuda, private_plan
from glmdoctor.remedies.plan import Options, Plan

LD_PATH = "LD_LIBRARY_PATH"


def drop_strays(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """LD_LIBRARY_PATH without the folders that bring a stub or another driver's libraries."""
    strays, loader = stray_folders(host), maybe(host.loader)
    if not strays or loader is None:
        return None
    rest = ":".join(folder for folder in loader.ld_library_path if folder not in strays)
    title = text("Leave {folders} out of LD_LIBRARY_PATH", folders=", ".join(strays))
    line = f"export {LD_PATH}={shlex.quote(rest)}" if rest else f"unset {LD_PATH}"
    return Plan("drop-stray-folders", title, (finding.id,), (), {LD_PATH: rest}, (line,))


def stray_folders(host: Machine) -> tuple[str, ...]:
    """Folders of LD_LIBRARY_PATH with libraries of no or another driver, or with a cuBLASLt before torch's."""
    loader, found = maybe(host.loader), maybe(host.libraries) or ()
    driver = maybe(host.kernel_driver)
    version = driver.version if driver and driver.loaded else None
    strays = [lib for lib in found if lib.name in DRIVER_NAMES and _stray(lib, version)]
    strays += [lib for lib in found if lib.name == "cublasLt" and any(_hides(lib, other) for other in found)]
    wrong = {posixpath.dirname(lib.path) for lib in strays}
    return tuple(folder for folder in loader.ld_library_path if folder.rstrip("/") in wrong) if loader else ()


def _stray(library: Library, version: str | None) -> bool:
    if LD_PATH not in library.found_by:
        return False
    if library.stub or library.fault:
        return True
    if not version or not library.version or "." not in library.version or library.version == version:
        return False
    # cuda-compat newer than the driver is what data-centre cards are given on purpose.
    return not is_compat(library) or numbers(library.version) < numbers(version)


def _hides(library: Library, other: Library) -> bool:
    """Does a library of LD_LIBRARY_PATH answer in place of a newer one of torch's wheels?"""
    if LD_PATH not in library.found_by or "wheel" in library.found_by or "wheel" not in other.found_by:
        return False
    old, new = numbers(library.version or ""), numbers(other.version or "")
    return library.soname == other.soname and min(len(old), len(new)) > 1 and old < new


def set_cuda_path(finding: Finding, host: Machine, options: Options) -> Plan | None:
    """The variables, and a dangling /usr/local/cuda, to the installed toolkit; without one, to a private folder."""
    names, toolkit = astray(host), best_toolkit(host)
    link = _default_link(host, toolkit, options) if toolkit else ()
    if not toolkit:
        private = private_plan(finding.id, host, options)
        variables = dict.fromkeys(names, private_cuda(options.private))
        return replace(private, environment=variables, commands=_exports(variables)) if private.actions else None
    if not names and not link:
        return None
    what = ", ".join((*names, *(placed.path for placed in link)))
    title = text("Lead {names} to the toolkit {folder}", names=what, folder=toolkit)
    variables = dict.fromkeys(names, toolkit)
    return Plan("lead-to-toolkit", title, (finding.id,), link, variables, _exports(variables), bool(link))


def _default_link(host: Machine, toolkit: str, options: Options) -> tuple[PlaceLink, ...]:
    install = maybe(host.cuda)
    dangles = install and install.default_target and not install.default_exists
    if not install or not dangles or not options.may_write(posixpath.dirname(install.default)):
        return ()
    return (PlaceLink(install.default, toolkit),)


def _exports(variables: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def astray(host: Machine) -> tuple[str, ...]:
    """CUDA_PATH and CUDA_HOME, as far as they lead to no libraries; both where they lead to different toolkits."""
    install = maybe(host.cuda)
    if install is None:
        return ()
    given = {"CUDA_PATH": install.cuda_path, "CUDA_HOME": install.cuda_home}
    values = {name: value for name, value in given.items() if value is not None}
    wrong = tuple(name for name, value in values.items() if not install.folders.get(value))
    versions = {install.toolkits[value] for value in values.values() if install.toolkits.get(value)}
    return wrong or (tuple(values) if len(versions) > 1 else ())
