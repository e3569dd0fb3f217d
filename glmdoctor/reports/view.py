"""What every report shows, in order: causes with their consequences folded under them, then what was checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from glmdoctor.findings import Finding, Report, Status
from glmdoctor.messages import Text, text

# Escape sequences and control characters of a compiler's or a log's words must not reach a terminal or an XML file.
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]"
    r"|[\u200e\u200f\u2028-\u202e\u2066-\u2069]"  # what turns the direction of text, and breaks its lines
)

STATUS_WORDS = {
    Status.OK: text("ok"),
    Status.WARN: text("warning"),
    Status.FAIL: text("failed"),
    Status.SKIPPED: text("skipped"),
    Status.UNKNOWN: text("unknown"),
    Status.CRASHED: text("crashed"),
}
VERDICTS = {
    "healthy": text("healthy: nothing is wrong"),
    "degraded": text("degraded: it works, with warnings"),
    "broken": text("broken: something has to be repaired"),
}


@dataclass(frozen=True)
class Entry:
    """A finding worth showing, with the findings that it explains."""

    finding: Finding
    consequences: tuple[Finding, ...]


def entries(report: Report) -> tuple[Entry, ...]:
    """Failed, warning, unknown and crashed findings; each consequence under the first of its causes."""
    shown = [f for f in report.findings if f.status not in (Status.OK, Status.SKIPPED)]
    known = {f.id for f in shown if not f.caused_by}
    folded: dict[str, list[Finding]] = {}
    tops: list[Finding] = []
    for finding in shown:
        cause = _first_cause(finding, shown, known)
        if cause is None:
            tops.append(finding)
        else:
            folded.setdefault(cause, []).append(finding)
    return tuple(Entry(top, tuple(folded.pop(top.id, ()))) for top in tops)


def _first_cause(finding: Finding, shown: list[Finding], tops: set[str]) -> str | None:
    """The id of the shown root cause at the end of the chain of causes, or None for a finding that stands alone."""
    seen: set[str] = set()
    pending = list(finding.caused_by)
    while pending:
        cause = pending.pop(0)
        if cause in tops:
            return cause
        if cause not in seen:
            seen.add(cause)
            pending += [c for f in shown if f.id == cause for c in f.caused_by]
    return None


def shown(value: Text | str, language: str) -> str:
    """A text as it may be printed: rendered, without control characters (line breaks stay)."""
    raw = value.render(language) if isinstance(value, Text) else value
    return CONTROL.sub("", raw.replace("\r\n", "\n"))


def checked(report: Report, status: Status) -> tuple[Finding, ...]:
    return tuple(f for f in report.findings if f.status is status)


def skipped_by_reason(report: Report, language: str) -> dict[str, list[str]]:
    """Ids of what was skipped, under the reason that they share."""
    reasons: dict[str, list[str]] = {}
    for finding in checked(report, Status.SKIPPED):
        reason = " ".join((shown(finding.detail, language) or shown(finding.title, language)).split())
        reasons.setdefault(reason, []).append(finding.id)
    return reasons


def abridged(ids: list[str]) -> str:
    """``kernel.given, model.* (7)``: checks of one subject as one, where there are several."""
    subjects: dict[str, list[str]] = {}
    for id in dict.fromkeys(ids):
        subjects.setdefault(id.partition(".")[0], []).append(id)
    return ", ".join(
        f"{subject}.* ({len(same)})" if len(same) > 3 else ", ".join(same) for subject, same in subjects.items()
    )


def summary_line(report: Report, language: str) -> str:
    """``23 checks: 20 ok, 1 failed, 2 skipped``."""
    counts = [f"{n} {STATUS_WORDS[Status(s)].render(language)}" for s, n in report.summary.items() if n]
    head = text("{n} checks", n=len({f.id for f in report.findings})).render(language)
    return f"{head}: {', '.join(counts)}" if counts else head
