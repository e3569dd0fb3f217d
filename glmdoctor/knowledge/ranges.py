"""Which packages go together: one set that Python, the driver's CUDA, the cards, torch and transformers all admit.

Solved as ranges over the tables of releases; what is installed stays where it fits, and the installed wheels' own
metadata is believed before the tables. Nothing is read here but the tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Needs:
    """What must be satisfied at once."""

    python: str
    transformers: str | None  # the range that glmcore, or a checkpoint's own code, runs on; None: it does without
    ceiling: tuple[int, int] | None = None  # the newest CUDA that the driver supports
    cards: tuple[tuple[int, int], ...] = ()  # compute capabilities; none: a CPU build will do
    packages: Mapping[str, str] = field(default_factory=dict)  # installed
    requires: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the installed wheels' own requirements
    torch_cuda: str | None = None  # of the installed torch
    torch_runs: bool = True  # has the installed torch code for every card
    others: tuple[str, ...] = ()  # further requirements: "sentencepiece>=0.2"


@dataclass(frozen=True)
class Together:
    """One line for pip; ``install`` is empty where everything installed already goes together."""

    torch: str
    transformers: str | None
    install: tuple[str, ...]
    index: str | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.install, *(("--extra-index-url", self.index) if self.index else ()))


def solve(needs: Needs) -> Together | None:
    """The newest set; None where nothing in the tables satisfies everything."""
    for torch, torch_index in _torches(needs):
        for transformers in _transformers(needs, torch):
            wanted = [*_changed(needs, "torch", torch)]
            wanted += _changed(needs, "transformers", transformers) if transformers else []
            wanted += [item for item in needs.others if not _has(needs.packages, item)]
            changes_torch = any(item.startswith("torch==") for item in wanted)
            return Together(torch, transformers, tuple(wanted), torch_index if changes_torch else None)
    return None


def _changed(needs: Needs, name: str, version: str) -> list[str]:
    return [] if needs.packages.get(name) == version else [f"{name}=={version}"]


def _has(packages: Mapping[str, str], requirement: str) -> bool:
    wanted = Requirement(requirement)
    found = packages.get(wanted.name)
    return found is not None and admits(str(wanted.specifier), found)


def _torches(needs: Needs) -> Iterator[tuple[str, str | None]]:
    """(version, index) of each torch that python, driver and cards admit: the installed one first.

    Within a major of CUDA a newer minor runs on an older driver.
    """
    installed = needs.packages.get("torch")
    if installed and _torch_fits(needs) and admits(">=2.4", installed):
        yield installed, None
    if not needs.cards and _python(needs.python) >= (3, 10):
        yield _table("torch_builds.json")["tested"]["version"], _table("torch_builds.json")["cpu_index"]
    for row in torch_builds():
        oldest, newest = (tuple(map(int, bound.split("."))) for bound in row["pythons"])
        fits = oldest <= _python(needs.python) <= newest
        if needs.ceiling and fits:
            fits = _numbers(row["cuda"])[0] <= needs.ceiling[0]
        if fits and all(row["oldest_sm"] <= 10 * major + minor <= row["newest_sm"] for major, minor in needs.cards):
            yield row["version"], row["index"]


def _torch_fits(needs: Needs) -> bool:
    """Can the installed torch use the cards under this driver?"""
    if not needs.cards:
        return True
    if needs.torch_cuda is None or not needs.torch_runs:
        return False
    return needs.ceiling is None or _numbers(needs.torch_cuda)[0] <= needs.ceiling[0]


def _transformers(needs: Needs, torch: str) -> Iterator[str | None]:
    if needs.transformers is None:
        yield None
        return
    installed = needs.packages.get("transformers")
    own = needs.requires.get("transformers", ())
    kept = installed is not None and admits(needs.transformers, installed)
    if installed and kept and not unmet(own, {**needs.packages, "torch": torch}, needs.python):
        yield installed
    for row in transformers_releases():
        if (
            row["version"] != installed  # it was judged above, by its own metadata
            and admits(needs.transformers, row["version"])
            and admits(row["python"], needs.python)
            and admits(row["torch"], torch)
        ):
            yield row["version"]


def unmet(requirements: Sequence[str], packages: Mapping[str, str], python: str) -> tuple[str, ...]:
    """The requirements of a wheel that the installed packages (or this Python) do not meet."""
    return tuple(line for line in requirements if not _met(line, packages, python))


def _met(line: str, packages: Mapping[str, str], python: str) -> bool:
    """A line that is no requirement counts as met: pip has refused or ignored it too."""
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return True
    if wanted.name.lower() == "python":
        return admits(str(wanted.specifier), python)
    found = packages.get(wanted.name.lower().replace("_", "-").replace(".", "-"))
    # An extra's requirement (torch for transformers) binds only where the package is installed.
    if found is None:
        return wanted.marker is not None
    return admits(str(wanted.specifier), found)


def admits(specifier: str, version: str) -> bool:
    """Is ``version``, a local part like +cu126 aside, within ``specifier``?"""
    try:
        return SpecifierSet(specifier).contains(Version(version).base_version, prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return False


def _python(version: str) -> tuple[int, ...]:
    return _numbers(version)[:2]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit())


@cache
def torch_builds() -> tuple[Mapping[str, Any], ...]:
    """Builds of torch, the newest first."""
    return tuple(_table("torch_builds.json")["builds"])


@cache
def transformers_releases() -> tuple[Mapping[str, Any], ...]:
    """Releases of transformers, the newest first."""
    return tuple(_table("transformers_releases.json")["releases"])


def _table(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return raw
