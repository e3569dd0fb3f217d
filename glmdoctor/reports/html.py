"""The report as one self-contained page, redacted: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from glmdoctor import __version__
from glmdoctor.findings import Finding, Remedy, Report, Status
from glmdoctor.messages import text
from glmdoctor.reports import drawing, machine
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.view import STATUS_WORDS, VERDICTS, Entry, entries, shown, summary_line

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis

OF_LIBRARIES = {"cuda", "cpm", "driver", "torch"}  # checks of what the drawing shows
STYLE = """
:root { --ink: #1c1e21; --paper: #ffffff; --faint: #667080; --rule: #d5dae0; --box: #f3f5f8;
        --fail: #b3261e; --warn: #8a5a00; --ok: #1b6e3c; --take: #2457c5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --paper: #15171a; --faint: #98a2b0; --rule: #343a42; --box: #1f2328;
          --fail: #ff8a80; --warn: #f2c14e; --ok: #7bd69b; --take: #8fb2ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
th { color: var(--faint); font-weight: normal; } td { overflow-wrap: anywhere; }
td.name { overflow-wrap: normal; word-break: keep-all; } td.word { white-space: nowrap; }
@media (max-width: 40rem) {
  .checked td { display: block; padding: 0; } .checked td.word, .checked td.name { display: inline-block; }
  .checked td.word { margin-right: .6rem; } .checked tr { display: block; margin: .6rem 0; } }
section { border-left: 4px solid var(--rule); padding-left: 1rem; margin: 1.5rem 0; }
h2, h3 { line-height: 1.25; } h3 { margin-bottom: .2rem; }
.fail { border-color: var(--fail); } .warn { border-color: var(--warn); }
.word-fail, .word-crashed { color: var(--fail); } .word-warn, .word-unknown { color: var(--warn); }
.word-ok { color: var(--ok); } .id, .word-skipped { color: var(--faint); }
pre { background: var(--box); padding: .6rem .8rem; overflow-x: auto; } .words { white-space: pre-wrap; }
.drawing { overflow-x: auto; } svg { font: 11px ui-monospace, monospace; } svg text { fill: var(--ink); }
svg rect { fill: var(--box); stroke: var(--rule); } svg .note { fill: var(--faint); }
svg .bad rect { stroke: var(--fail); } svg .bad .note { fill: var(--fail); }
svg .odd rect { stroke: var(--faint); stroke-dasharray: 4 3; }
svg .consumer rect { stroke: var(--take); } svg path { fill: none; stroke: var(--faint); }
svg .takes { stroke: var(--take); stroke-width: 1.5; } svg marker path { fill: var(--faint); stroke: none; }
"""


def render(diagnosis: Diagnosis, language: str, redact: Redactor | None = None) -> str:
    return "\n".join(_page(diagnosis, language, redact or Redactor.of_this_machine())) + "\n"


def _page(diagnosis: Diagnosis, language: str, redact: Redactor) -> Iterator[str]:
    report = diagnosis.report
    yield f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>glmdoctor: {escape(report.verdict)}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>glmdoctor {__version__}: {escape(VERDICTS[report.verdict].render(language))}</h1>"
    yield f"<p>{escape(summary_line(report, language))}</p><table>"
    for label, value in machine.rows(diagnosis.host):
        yield f"<tr><th>{escape(shown(label, language))}</th><td>{escape(redact(shown(value, language)))}</td></tr>"
    yield "</table>"
    for entry in entries(report):
        yield from _entry(entry, language, redact)
    yield f"<h2>{escape(text('Libraries: which file each consumer gets').render(language))}</h2>"
    drawn = drawing.draw(diagnosis.host, language, redact, failing=_libraries_fail(report))
    yield f'<div class="drawing">{drawn}</div>'
    yield f'<h2>{escape(text("What was checked").render(language))}</h2><table class="checked">'
    for finding in report.findings:
        yield _row(finding, language, redact)
    yield "</table></body></html>"


def _libraries_fail(report: Report) -> bool:
    return any(each.status is Status.FAIL and each.id.split(".")[0] in OF_LIBRARIES for each in report.findings)


def _entry(entry: Entry, language: str, redact: Redactor) -> Iterator[str]:
    finding = entry.finding
    yield f'<section class="{finding.status.value}"><h3>{_word(finding, language)} '
    yield f'{escape(redact(shown(finding.title, language)))}</h3><div class="id">{escape(_names(finding))}</div>'
    yield f'<p class="words">{escape(redact(shown(finding.detail, language)))}</p>'
    if entry.consequences:
        yield f"<p>{escape(text('What follows from it:').render(language))}</p><ul>"
        for consequence in entry.consequences:
            title = escape(redact(shown(consequence.title, language)))
            yield f'<li>{title} <span class="id">{escape(consequence.id)}</span></li>'
        yield "</ul>"
    if finding.remedies:
        yield f"<p>{escape(text('What to do:').render(language))}</p><ul>"
        yield from (_remedy(remedy, language, redact) for remedy in finding.remedies)
        yield "</ul>"
    yield "</section>"


def _names(finding: Finding) -> str:
    return finding.id if finding.problem is None else f"{finding.id}, {finding.problem}"


def _word(finding: Finding, language: str) -> str:
    word = STATUS_WORDS[finding.status].render(language)
    return f'<span class="word-{finding.status.value}">{escape(word)}</span>'


def _remedy(remedy: Remedy, language: str, redact: Redactor) -> str:
    commands = "\n".join(redact(shown(command, language)) for command in remedy.commands)
    block = f"<pre>{escape(commands)}</pre>" if commands else ""
    return f"<li>{escape(redact(shown(remedy.title, language)))}{block}</li>"


def _row(finding: Finding, language: str, redact: Redactor) -> str:
    words = escape(redact(shown(finding.detail, language) or shown(finding.title, language)))
    name = f'<td class="name">{escape(finding.id)}</td>'
    return f'<tr><td class="word">{_word(finding, language)}</td>{name}<td>{words}</td></tr>'
