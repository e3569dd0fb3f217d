"""One machine of the lab, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from machine import Machine

Build = Callable[[Machine], object]


@dataclass(frozen=True)
class Case:
    """``shows``: check → the problem it has to find. ``causes``: the root causes, where they are not just those."""

    build: Build
    shows: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    causes: tuple[str, ...] | None = None
    clears: tuple[str, ...] = ()  # checks that look and find nothing
    as_user: bool = False

    @property
    def name(self) -> str:
        return self.build.__name__

    @property
    def root_causes(self) -> list[str]:
        return sorted(set(self.shows.values()) if self.causes is None else self.causes)


def problems(report: dict, key: Callable[[dict], bool]) -> list[str]:
    return sorted({finding["problem"] for finding in report["findings"] if key(finding)})


def root_causes(report: dict) -> list[str]:
    return problems(report, lambda finding: finding["root_cause"] and finding["status"] in ("fail", "warn"))


def failures(report: dict) -> list[str]:
    return problems(report, lambda finding: finding["status"] == "fail")


def found(report: dict) -> set[tuple[str, str]]:
    """Check and problem of everything that is not well."""
    return {(f["id"], f["problem"]) for f in report["findings"] if f["status"] in ("fail", "warn")}
