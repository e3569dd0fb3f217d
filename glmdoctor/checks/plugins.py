"""Checks that other packages bring: entry points of the group ``glmdoctor.checks``, each a Check or several.

A plugin that cannot be loaded, or that names its checks as ours are named, becomes a check that crashes: it shows in
the report and stops nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from glmdoctor.checks.base import Check, Machine
from glmdoctor.findings import Finding
from glmdoctor.messages import text

GROUP = "glmdoctor.checks"


@cache
def found(taken: frozenset[str]) -> tuple[Check, ...]:
    """The checks of all installed plugins; ``taken``: ids that are ours."""
    checks: list[Check] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        checks += _of(entry, taken | {check.id for check in checks})
    return tuple(checks)


def _of(entry: EntryPoint, taken: frozenset[str]) -> tuple[Check, ...]:
    try:
        brought = entry.load()
        checks = (brought,) if isinstance(brought, Check) else tuple(brought)
        _verify(checks, taken)
    except (Exception, SystemExit) as error:  # whatever a stranger's module does while it is imported
        return (_broken(entry, error),)
    return checks


def _verify(checks: Iterable[object], taken: frozenset[str]) -> None:
    for check in checks:
        if not isinstance(check, Check):
            raise TypeError(f"{check!r} is no glmdoctor.checks.Check")
        if check.id in taken:
            raise ValueError(f"there is a check {check.id} already")


def _broken(entry: EntryPoint, error: BaseException) -> Check:
    def run(host: Machine) -> Iterator[Finding]:
        raise RuntimeError(f"{entry.value}: {type(error).__name__}: {error}") from error

    return Check(f"plugin.{entry.name}", text("Plugin {name}", name=entry.name), run)
