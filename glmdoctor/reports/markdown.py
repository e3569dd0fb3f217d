"""The report for a bug report: Markdown, redacted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from glmdoctor import __version__
from glmdoctor.findings import Remedy, Status
from glmdoctor.messages import text
from glmdoctor.reports import machine
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.view import (
    STATUS_WORDS,
    VERDICTS,
    Entry,
    checked,
    entries,
    shown,
    skipped_by_reason,
    summary_line,
)

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")


def render(diagnosis: Diagnosis, language: str, redact: Redactor | None = None) -> str:
    redact = redact or Redactor.of_this_machine()
    return "\n".join(_lines(diagnosis, language, redact)) + "\n"


def escaped(words: str) -> str:
    """Words as plain Markdown text on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(words.split()))


def _lines(diagnosis: Diagnosis, language: str, redact: Redactor) -> Iterator[str]:
    report = diagnosis.report
    yield f"## glmdoctor {__version__}: {VERDICTS[report.verdict].render(language)}"
    yield ""
    yield f"| {text('Fact').render(language)} | {text('Value').render(language)} |"
    yield "| --- | --- |"
    for label, value in machine.rows(diagnosis.host):
        yield f"| {escaped(shown(label, language))} | {escaped(redact(shown(value, language)))} |"
    for entry in entries(report):
        yield ""
        yield from _entry(entry, language, redact)
    yield ""
    yield f"### {text('What was checked').render(language)}"
    yield ""
    yield summary_line(report, language)
    yield ""
    yield from _checked(diagnosis, language, redact)


def _entry(entry: Entry, language: str, redact: Redactor) -> Iterator[str]:
    finding = entry.finding
    word = STATUS_WORDS[finding.status].render(language)
    yield f"### {escaped(word)}: {escaped(redact(shown(finding.title, language)))}"
    yield ""
    yield f"`{finding.id}`" + (f", `{finding.problem}`" if finding.problem else "")
    yield ""
    yield from _paragraphs(redact(shown(finding.detail, language)))
    if entry.consequences:
        yield ""
        yield text("What follows from it:").render(language)
        yield ""
        for consequence in entry.consequences:
            yield f"- {escaped(redact(shown(consequence.title, language)))} (`{consequence.id}`)"
    if finding.remedies:
        yield ""
        yield text("What to do:").render(language)
        yield ""
        for remedy in finding.remedies:
            yield from _remedy(remedy, language, redact)


def _paragraphs(detail: str) -> Iterator[str]:
    """One line is a sentence; several are somebody's words, kept as they are."""
    if "\n" not in detail.strip():
        yield escaped(detail)
        return
    yield from fenced(detail)


def fenced(words: str, indent: str = "") -> Iterator[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", words)), default=0))
    yield f"{indent}{fence}text"
    yield from (indent + row for row in words.strip("\n").splitlines())
    yield f"{indent}{fence}"


def _remedy(remedy: Remedy, language: str, redact: Redactor) -> Iterator[str]:
    yield f"- {escaped(redact(shown(remedy.title, language)))}"
    if remedy.commands:
        yield ""
        yield from fenced("\n".join(redact(shown(command, language)) for command in remedy.commands), "  ")


def _checked(diagnosis: Diagnosis, language: str, redact: Redactor) -> Iterator[str]:
    passed = dict.fromkeys(f.id for f in checked(diagnosis.report, Status.OK))
    if passed:
        yield f"- {STATUS_WORDS[Status.OK].render(language)}: " + ", ".join(f"`{name}`" for name in passed)
    for reason, ids in skipped_by_reason(diagnosis.report, language).items():
        names = ", ".join(f"`{name}`" for name in ids)
        yield f"- {STATUS_WORDS[Status.SKIPPED].render(language)}: {names}: {escaped(redact(reason))}"
