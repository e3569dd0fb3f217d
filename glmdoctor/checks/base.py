"""What a check is, and the few words in which checks speak.

A check is a pure function from a machine's facts to findings. Its function names no id: the engine stamps the check's
own id on every finding, so that the table of checks is the only place where ids are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from glmdoctor.findings import Finding, Payload, Status
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import Text, text
from glmdoctor.readings.machine import Machine, known, maybe

__all__ = ["Check", "Machine", "bad", "known", "maybe", "not_looked_at", "ok", "skipped", "unknown"]


@dataclass(frozen=True)
class Check:
    """One question to the machine; it is skipped where a fact in ``needs`` is unknown, and may look at others."""

    id: str
    title: Text
    run: Callable[[Machine], Iterable[Finding]]
    problems: tuple[str, ...] = ()  # what it can find, by the catalogue's ids
    needs: tuple[str, ...] = ()
    explained_by: tuple[str, ...] = ()  # problems of which everything found here is a mere consequence
    deep: bool = False  # takes seconds or more: asked only with ``--deep``, or by its id


def ok(title: Text, detail: Text, **evidence: object) -> Finding:
    return Finding("", Status.OK, title, detail, evidence=evidence)


def skipped(title: Text, detail: Text, **evidence: object) -> Finding:
    """The question does not arise on this machine; ``detail`` says why."""
    return Finding("", Status.SKIPPED, title, detail, evidence=evidence)


def unknown(title: Text, detail: Text, **evidence: object) -> Finding:
    return Finding("", Status.UNKNOWN, title, detail, evidence=evidence)


def not_looked_at(title: Text, fact: Unknown) -> Finding:
    """Skipped because the fact that would decide could not be read."""
    return skipped(title, text("Not looked at: {reason}", reason=Text(fact.reason)))


def bad(
    status: Status, problem: str, title: Text, detail: Text, payload: Payload | None = None, /, **evidence: object
) -> Finding:
    return Finding("", status, title, detail, problem, evidence, payload=payload)
