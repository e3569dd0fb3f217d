"""What the doctor says: findings, their remedies, and the report that orders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from glmdoctor.messages import Text


class Status(str, Enum):
    """The closed set of results of a check."""

    OK = "ok"
    WARN = "warn"  # works, or is not needed for what this machine is asked to do
    FAIL = "fail"
    SKIPPED = "skipped"  # does not apply here, or a fact it needs could not be read (the detail says which)
    UNKNOWN = "unknown"  # looked, and could not tell
    CRASHED = "crashed"  # the check itself broke; the others went on


@dataclass(frozen=True)
class Remedy:
    """What can be done about a finding."""

    id: str
    title: Text
    automatic: bool  # `glmdoctor fix` can do it
    needs_root: bool
    reversible: bool  # `glmdoctor undo` takes it back exactly
    commands: tuple[str, ...] = ()  # for a person to read and run, shell-quoted


@dataclass(frozen=True)
class Nodes:
    """Device nodes that are closed to this user."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Chains:
    """Names of a library that lead astray, each with its links, to the file or where they stop."""

    chains: tuple[tuple[str, ...], ...]


class Mismatch(str, Enum):
    """Why the driver's libraries are not of the kernel module's version."""

    UPGRADED = "upgraded-under-module"
    TWO_VERSIONS = "two-versions"
    STRAY_FOLDER = "stray-folder"


@dataclass(frozen=True)
class WrongDriver:
    case: Mismatch
    packages: tuple[str, ...] = ()  # that own files of another version than the module's


@dataclass(frozen=True)
class Owner:
    """The package that the fault came with."""

    package: str


@dataclass(frozen=True)
class Variables:
    """Variables of the environment that are in the way."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Requirements:
    """What pip is asked for, its options among them."""

    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """Files of the checkpoint to be fetched again."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class AutoMap:
    """Values in a JSON file of the checkpoint that name another repository."""

    path: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class RopeTheta:
    """The base that a JSON file of the checkpoint should have."""

    path: str
    base: int


# What a remedy has to know of a finding, beyond its problem and the machine's facts.
Payload = Nodes | Chains | WrongDriver | Owner | Variables | Requirements | Files | AutoMap | RopeTheta


@dataclass(frozen=True)
class Finding:
    id: str  # the check's id, e.g. "cuda.libcuda-link"
    status: Status
    title: Text
    detail: Text
    problem: str | None = None  # id in the problem catalogue; None where status is ok
    evidence: Mapping[str, object] = field(default_factory=dict)  # plain JSON data, to be read by people and programs
    root_cause: bool = False
    caused_by: tuple[str, ...] = ()  # ids of findings
    remedies: tuple[Remedy, ...] = ()
    payload: Payload | None = None
    follows_from: tuple[str, ...] = ()  # problems that would explain this very finding, besides those of its check

    @property
    def bad(self) -> bool:
        return self.status in (Status.FAIL, Status.WARN)


@dataclass(frozen=True)
class Report:
    """All findings of one examination, root causes first."""

    findings: tuple[Finding, ...]

    @property
    def summary(self) -> dict[str, int]:
        return {status.value: sum(f.status is status for f in self.findings) for status in Status}

    @property
    def verdict(self) -> str:
        """healthy, degraded (warnings or crashed checks) or broken (at least one failure)."""
        if any(f.status is Status.FAIL for f in self.findings):
            return "broken"
        return "degraded" if any(f.status in (Status.WARN, Status.CRASHED) for f in self.findings) else "healthy"

    @property
    def exit_status(self) -> int:
        """0 nothing failed, 1 a failure, 3 a check crashed and nothing failed."""
        if any(f.status is Status.FAIL for f in self.findings):
            return 1
        return 3 if any(f.status is Status.CRASHED for f in self.findings) else 0

    @property
    def root_causes(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.root_cause)
