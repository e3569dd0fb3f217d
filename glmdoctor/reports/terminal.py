"""The report for a person: causes first, what follows from them below, what to do, and at the end what was checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmdoctor import __version__
from glmdoctor.findings import Finding, Remedy, Report, Status
from glmdoctor.messages import text
from glmdoctor.reports import machine
from glmdoctor.reports.view import VERDICTS, Entry, abridged, checked, entries, shown, skipped_by_reason, summary_line

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

MARKS = {
    Status.OK: "✓",
    Status.WARN: "!",
    Status.FAIL: "✗",
    Status.SKIPPED: "-",
    Status.UNKNOWN: "?",
    Status.CRASHED: "☠",
}
SIGNS = "".join(MARKS.values()) + "•"  # what the output must be able to carry
PLAIN_MARKS = {Status.OK: "ok", Status.WARN: "!", Status.FAIL: "x", Status.UNKNOWN: "?", Status.CRASHED: "CRASH"}
STYLES = {
    Status.OK: "green",
    Status.WARN: "bold yellow",
    Status.FAIL: "bold red",
    Status.UNKNOWN: "bold magenta",
    Status.CRASHED: "bold magenta",
}
# Checks whose reading is worth a line where nothing is wrong: what fits here, how fast it will be.
TOLD = ("system.capacity", "model.memory", "deep.cpu", "deep.gpu", "deep.hashes", "deep.numbers")


@dataclass(frozen=True)
class Line:
    """One paragraph of the report; ``verbatim`` ones (commands) are never wrapped."""

    text: str
    indent: int = 0
    style: str = ""
    verbatim: bool = False


def render(diagnosis: Diagnosis, language: str, *, unicode: bool = True) -> str:
    return plain(lines(diagnosis, language, unicode))


def failures(diagnosis: Diagnosis, language: str) -> str:
    """Only what failed, plain."""
    failed = [entry for entry in entries(diagnosis.report) if entry.finding.status is Status.FAIL]
    return plain(line for entry in failed for line in _entry(entry, language, MARKS))


def plain(paragraphs: Iterable[Line]) -> str:
    """As for a pipe: no colours, no wrapping."""
    return "\n".join(" " * line.indent + line.text for line in paragraphs) + "\n"


def rich(paragraphs: Iterable[Line], width: int, colours: bool) -> str:
    """For a terminal of ``width`` columns; the library knows how wide Chinese characters are."""
    import io

    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    target = io.StringIO()
    console = Console(file=target, width=width, force_terminal=True, no_color=not colours, highlight=False)
    for line in paragraphs:
        content = Text(line.text, style=line.style)
        if line.verbatim:
            console.print(Text(" " * line.indent) + content, soft_wrap=True)
        else:
            console.print(Padding(content, (0, 0, 0, line.indent)))
    return target.getvalue()


def lines(diagnosis: Diagnosis, language: str, unicode: bool) -> Iterator[Line]:
    marks = MARKS if unicode else {**MARKS, **PLAIN_MARKS}
    report = diagnosis.report
    yield Line(f"glmdoctor {__version__}", style="bold")
    for label, value in machine.rows(diagnosis.host):
        yield Line(f"{shown(label, language)}: {shown(value, language)}", 2, "dim")
    for entry in entries(report):
        yield Line("")
        yield from _entry(entry, language, marks)
    yield Line("")
    yield from _checked(report, language, marks)


def _entry(entry: Entry, language: str, marks: dict[Status, str]) -> Iterator[Line]:
    finding = entry.finding
    name = finding.id if finding.problem is None else f"{finding.id}, {finding.problem}"
    yield Line(f"{marks[finding.status]} {shown(finding.title, language)}  [{name}]", 0, STYLES[finding.status])
    for paragraph in shown(finding.detail, language).splitlines():
        yield Line(paragraph, 4)
    if entry.consequences:
        yield Line(text("What follows from it:").render(language), 4)
        for consequence in entry.consequences:
            yield Line(_consequence(consequence, language, marks), 6)
    if finding.remedies:
        yield Line(text("What to do:").render(language), 4, "bold")
        for remedy in finding.remedies:
            yield from _remedy(remedy, language, "•" if marks is MARKS else "*")


def _consequence(finding: Finding, language: str, marks: dict[Status, str]) -> str:
    return f"{marks[finding.status]} {shown(finding.title, language)}  [{finding.id}]"


def _remedy(remedy: Remedy, language: str, bullet: str) -> Iterator[Line]:
    notes = [
        text("glmdoctor fix does this") if remedy.automatic else None,
        text("needs root") if remedy.needs_root else None,
        text("can be undone") if remedy.automatic and remedy.reversible else None,
    ]
    words = ", ".join(note.render(language) for note in notes if note)
    yield Line(f"{bullet} {shown(remedy.title, language)}" + (f" ({words})" if words else ""), 6)
    for command in remedy.commands:
        for row in shown(command, language).splitlines():
            yield Line(row, 10, "cyan", verbatim=True)


def _checked(report: Report, language: str, marks: dict[Status, str]) -> Iterator[Line]:
    passed = checked(report, Status.OK)
    if passed:
        yield Line(f"{marks[Status.OK]} {', '.join(dict.fromkeys(f.id for f in passed))}", 0, STYLES[Status.OK])
    for finding in passed:
        if finding.id in TOLD:
            yield Line(f"{shown(finding.title, language)}: {shown(finding.detail, language)}", 2)
    for reason, ids in skipped_by_reason(report, language).items():
        yield Line(f"{marks[Status.SKIPPED]} {abridged(ids)}: {reason}", 0, "dim")
    yield Line("")
    yield Line(summary_line(report, language))
    yield Line(VERDICTS[report.verdict].render(language), 0, "bold")
