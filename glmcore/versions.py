"""Whether torch and transformers are as tested: within the ranges of setup.cfg, which the installed package carries."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement


def newer(requirements: Iterable[str], package: str, version: str) -> bool:
    """Is ``version``, a local part like +cpu aside, past the upper bound that is set for ``package``?"""
    for line in map(Requirement, requirements):
        bounds = [part for part in line.specifier if part.operator == "<"] if line.name == package else []
        if any(not bound.contains(version.partition("+")[0], prereleases=True) for bound in bounds):
            return True
    return False


def untested(*packages: str) -> list[str]:
    """A line for each of the installed ``packages`` that is newer than the newest tested."""
    try:
        requirements = metadata.requires("glmdoctor") or []
    except metadata.PackageNotFoundError:
        return []  # run from its source alone
    found = {package: metadata.version(package) for package in packages}
    return [
        f"{package} {version} is newer than what glmcore was tested with; count on surprises"
        for package, version in found.items()
        if newer(requirements, package, version)
    ]
