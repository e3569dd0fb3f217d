"""Versions as numbers to compare, and ranges of them. Standard library alone until a range is asked for."""

from __future__ import annotations

import re


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers to compare; anything after the first non-number is dropped."""
    return tuple(int(part) for part in re.findall(r"\d{1,18}", re.split(r"[^\d.]", version)[0]))


def admits(specifier: str, version: str) -> bool:
    """Is ``version`` (a local part like +cu126 aside) within ``specifier``? False where one of them is none."""
    # Imported here because it is slow, and a machine without torch and models never asks.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        return SpecifierSet(specifier).contains(Version(version).base_version, prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return False
