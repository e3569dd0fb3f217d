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

from glmdoctor.readings.torch_builds import cpu_build, fitting, starts
from glmdoctor.readings.versions import admits, numbers


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
    torch: str = ">=2.4"  # the range in which an installed torch may stay


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
    """(version, index) of each torch that python, driver and cards admit: the installed one first."""
    installed, python = needs.packages.get("torch"), numbers(needs.python)[:2]
    if installed and _torch_fits(needs) and admits(needs.torch, installed):
        yield installed, None
    if (needs.ceiling, needs.cards) == (None, ()) and python >= (3, 10):
        yield cpu_build()
    yield from ((build.version, build.index) for build in fitting(python, needs.ceiling, needs.cards))


def _torch_fits(needs: Needs) -> bool:
    """Can the installed torch use the cards under this driver?"""
    if not needs.cards:
        return True
    if needs.torch_cuda is None or not needs.torch_runs:
        return False
    return needs.ceiling is None or starts(numbers(needs.torch_cuda), needs.ceiling)


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


@cache
def transformers_releases() -> tuple[Mapping[str, Any], ...]:
    """Releases of transformers, the newest first."""
    raw = resources.files("glmdoctor.knowledge").joinpath("transformers_releases.json").read_text(encoding="utf-8")
    return tuple(json.loads(raw)["releases"])
