"""The facts of a machine, as whoever reads them sees them."""

from __future__ import annotations

from typing import TypeVar

from glmdoctor.host.facts import Machine, Unknown

__all__ = ["Machine", "known", "maybe"]

T = TypeVar("T")


def known(fact: T | Unknown) -> T:
    """A fact that the check's ``needs`` promise."""
    assert not isinstance(fact, Unknown), fact.reason
    return fact


def maybe(fact: T | Unknown) -> T | None:
    """A fact that can be done without."""
    return None if isinstance(fact, Unknown) else fact
