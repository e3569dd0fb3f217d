"""Packages of the examined Python at exact versions: the plan names each, and the way back its former version."""

from __future__ import annotations

import errno
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from glmcore import programs
from glmdoctor.actions.change import Changes
from glmdoctor.actions.disk import Disk, Node
from glmdoctor.messages import Text, text

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
INSTALL_SECONDS = 3600  # torch's wheels are gigabytes
# Runs in the examined Python. A pip that was killed leaves what it was about to take away under names that begin with
# "~" (which pip itself may take for the package), and new files without the RECORD that it writes last.
AFTER_A_KILL = """
import json, os, re, shutil, sys, sysconfig
site = sysconfig.get_path("purelib")
entries = os.listdir(site) if os.path.isdir(site) else []
wanted = dict(pin.split("==") for pin in sys.argv[1:])
def plain(name): return re.sub("[-_.]+", "-", name).lower()
def remove(entry):
    path = os.path.join(site, entry)
    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    entries.remove(entry)
def stashed(entry):
    name = plain(re.split("-[0-9]|[.]py$", entry[1:])[0])
    return entry == "~_pycache__" or entry.startswith("~") and name in [name[1:] for name in wanted]
for entry in filter(stashed, list(entries)):
    remove(entry)
infos = [(plain(e.rpartition("-")[0]), e) for e in entries if e.endswith((".dist-info", ".egg-info"))]
for name, entry in infos:
    ours = name in wanted and entry.endswith("-" + wanted[name] + ".dist-info")
    if ours and not os.path.exists(os.path.join(site, entry, "RECORD")):
        remove(entry)
whole = {name for name, entry in infos if entry in entries}
there = {plain(os.path.splitext(entry)[0]) for entry in entries}
print(json.dumps([name for name in wanted if name in there and name not in whole]))
"""


def pip(python: str, *arguments: str) -> list[str]:
    return programs.with_packages(python, *PIP, *arguments)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(output: str) -> dict[str, str]:
    """Normalised name → version, from what ``pip list --format=json`` says."""
    return {normalised(entry["name"]): entry["version"] for entry in json.loads(output)}


def installed(python: str, disk: Disk) -> dict[str, str]:
    return listed(disk.run(pip(python, "list", "--format=json")))


def versions(pins: tuple[str, ...]) -> dict[str, str]:
    """``("numpy==1.26.4",)`` as a mapping."""
    return {name: version for name, _, version in (pin.partition("==") for pin in pins)}


@dataclass(frozen=True)
class Reinstall:
    """The former versions again, and the packages gone that were not there; what others changed since stays."""

    python: str
    pins: tuple[str, ...]
    former: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{self.python}: {', '.join(self.former or self.pins)}"

    def apply(self, disk: Disk) -> None:
        """Put the former versions back. Raises FileExistsError where others have changed a package since."""
        new, old = versions(self.pins), versions(self.former)
        half = json.loads(disk.run(programs.isolated(self.python, "-c", AFTER_A_KILL, *self.pins)))
        if half:  # made whole first: pip takes away only what it knows of
            whole = [f"{name}=={new[name]}" for name in half]
            pip_install(self.python, ["--force-reinstall", *whole], self.options, disk)
        now = installed(self.python, disk)
        changed = [name for name in new if now.get(name) != old.get(name)]
        # One that is missing was being replaced when the repair was killed.
        ours = [name for name in changed if now.get(name) in (None, new[name])]
        back = [f"{name}=={old[name]}" for name in ours if name in old]
        gone = [name for name in ours if name not in old and name in now]
        if back:
            pip_install(self.python, back, self.options, disk)
        if gone:
            disk.run(pip(self.python, "uninstall", "--yes", *gone), INSTALL_SECONDS)
        if len(ours) < len(changed):
            raise FileExistsError(errno.EEXIST, "changed by others", self.path)

    def clear(self, disk: Disk) -> None:
        """Nothing is kept beside."""

    def loss(self, disk: Disk) -> Text | None:
        """The interpreter may be gone with its environment."""
        return None if disk.runs(self.python) else text("{path} cannot be restored: it is gone", path=self.python)


@dataclass(frozen=True)
class InstallPackages:
    """``pip install`` of exact versions, dependencies included, into one interpreter."""

    python: str
    pins: tuple[str, ...]  # "name==version", all that pip's own plan will change
    former: tuple[str, ...]  # the same names as they were; those that were not installed are left out
    options: tuple[str, ...] = ()  # of pip, as --index-url
    derived: ClassVar[bool] = False
    kind: str = field(default="install-packages", init=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return ()

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        return not self.pins

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        now, old = installed(self.python, disk), versions(self.former)
        changed = [name for name in versions(self.pins) if now.get(name) != old.get(name)]
        return text("{path} has changed since the plan was made", path=changed[0]) if changed else None

    def apply(self, disk: Disk, changes: Changes) -> None:
        pip_install(self.python, self.pins, self.options, disk)

    def inverse(self, changes: Changes) -> tuple[Reinstall, ...]:
        return (Reinstall(self.python, self.pins, self.former, self.options),)

    def results(self, changes: Changes) -> Mapping[str, Node]:
        return {}

    def as_shell(self, changes: Changes) -> Sequence[str]:
        command = (self.python, "-m", "pip", "install", "--no-deps", *self.options, *self.pins)
        return (shlex.join(command),)

    def describe(self, changes: Changes) -> Text:
        if not self.former:
            return text("install {pins} with {python}", pins=", ".join(self.pins), python=self.python)
        back = shlex.join([self.python, "-m", "pip", "install", "--no-deps", *self.former])
        return text(
            "install {pins} with {python}; the way back is `{back}`",
            pins=", ".join(self.pins),
            python=self.python,
            back=back,
        )


def pip_install(python: str, pins: tuple[str, ...] | list[str], options: tuple[str, ...], disk: Disk) -> None:
    disk.run(pip(python, "install", "--quiet", "--no-deps", *options, *pins), INSTALL_SECONDS)
