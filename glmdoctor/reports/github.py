"""The report as GitHub workflow commands: an annotation for each cause; consequences are named under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmdoctor.findings import Status
from glmdoctor.messages import text
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.view import Entry, entries, shown, summary_line

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

LEVELS = {Status.FAIL: "error", Status.CRASHED: "error", Status.WARN: "warning", Status.UNKNOWN: "notice"}


def render(diagnosis: Diagnosis, language: str, redact: Redactor | None = None) -> str:
    redact = redact or Redactor.of_this_machine()
    annotations = [_annotation(entry, language, redact) for entry in entries(diagnosis.report)]
    return "\n".join([*annotations, summary_line(diagnosis.report, language)]) + "\n"


def _annotation(entry: Entry, language: str, redact: Redactor) -> str:
    finding = entry.finding
    body = [shown(finding.detail, language)]
    if entry.consequences:
        names = ", ".join(shown(consequence.title, language) for consequence in entry.consequences)
        body.append(f"{text('What follows from it:').render(language)} {names}")
    for remedy in finding.remedies:
        body += [shown(remedy.title, language), *(f"  {command}" for command in remedy.commands)]
    title = property_escaped(redact(shown(finding.title, language)))
    return f"::{LEVELS[finding.status]} title={title}::{escaped(redact(chr(10).join(body)))}"


def escaped(words: str) -> str:
    """As GitHub's own toolkit escapes a command's message."""
    return words.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_escaped(words: str) -> str:
    return escaped(words).replace(":", "%3A").replace(",", "%2C")
