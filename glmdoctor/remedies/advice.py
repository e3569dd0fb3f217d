"""Advice for a person: what nobody should have done for them silently, with the commands for this very machine."""

from __future__ import annotations

from collections.abc import Mapping

from glmdoctor.findings import Finding, Remedy
from glmdoctor.knowledge import problems
from glmdoctor.messages import Text, Translated, text
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies import commands


def advise(finding: Finding, host: Machine) -> tuple[Remedy, ...]:
    """The catalogue's advice on the finding's problem; for a driver mismatch, that on its case."""
    if finding.problem is None or finding.problem not in problems():  # a plugin's brings its own remedies
        return ()
    if finding.problem == "driver-library-mismatch":
        return (_mismatch(finding, host),)
    words = problems()[finding.problem].remedy
    title = Translated(words["en"], translations=words)
    return (_advice(finding.problem, title, commands.commands(finding, host)),)


def _advice(name: str, title: Text, lines: commands.Commands) -> Remedy:
    root = any(line.startswith("sudo ") for line in lines)
    return Remedy(f"advice-{name}", title, automatic=False, needs_root=root, reversible=False, commands=lines)


def _mismatch(finding: Finding, host: Machine) -> Remedy:
    case = finding.evidence.get("case")
    if case == "stray-folder":
        return _advice(case, text("Take the folder out of LD_LIBRARY_PATH; no reboot is needed."), ())
    if case == "two-versions":
        title = text("Remove the packages of the version that the module is not of, or the files that no package owns.")
        return _advice(case, title, commands.remove_packages(host, _wrong_owners(finding)))
    driver = maybe(host.kernel_driver)
    holders = [f"{process.name} ({process.pid})" for process in driver.holders] if driver else []
    title = text(
        "End the processes that hold the devices ({holders}), reload the module, or reboot.", holders=", ".join(holders)
    )
    free = text("Reload the module, or reboot.")
    return _advice("upgraded-under-module", title if holders else free, commands.reload_module(host))


def _wrong_owners(finding: Finding) -> list[str]:
    """Packages that own files of a version which is not the module's."""
    owners, by_version = finding.evidence.get("owners"), finding.evidence.get("by_version")
    if not isinstance(owners, Mapping) or not isinstance(by_version, Mapping):
        return []
    right = set(by_version.get(str(finding.evidence.get("module")), ()))
    return [str(owner) for file, owner in owners.items() if file not in right]
