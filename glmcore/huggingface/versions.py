"""Whether torch and transformers are as tested: within the ranges of setup.cfg, which the installed package carries."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement

PACKAGES = ("torch", "transformers")


def newer(requirements: Iterable[str], package: str, version: str) -> bool:
    """Is ``version``, a local part like +cpu aside, past the upper bound that is set for ``package``?"""
    for line in map(Requirement, requirements):
        bounds = [part for part in line.specifier if part.operator == "<"] if line.name == package else []
        if any(not bound.contains(version.partition("+")[0], prereleases=True) for bound in bounds):
            return True
    return False


def warn_untested() -> None:
    """One UserWarning for each of the packages that is newer than the newest tested."""
    try:
        requirements = metadata.requires("glmdoctor") or []
    except metadata.PackageNotFoundError:
        return  # run from its source alone
    for package in PACKAGES:
        version = metadata.version(package)
        if newer(requirements, package, version):
            message = f"{package} {version} is newer than what glmcore was tested with; count on surprises"
            warnings.warn(message, UserWarning, stacklevel=3)
