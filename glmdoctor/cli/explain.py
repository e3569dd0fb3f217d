"""``glmdoctor explain``: say which known problem a log shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import click

from glmdoctor.cli import options, output

if TYPE_CHECKING:
    from glmdoctor.explain import Explanation, Match

NOTHING_KNOWN = 1


@click.command()
@click.argument("log", metavar="[FILE|-]", default="-")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--check", "with_check", is_flag=True, help="Ask this machine which of the matches is true.")
@click.option("--report", metavar="FILE", help="Also write a bug report: this, and the machine; redacted Markdown.")
@options.language
@click.pass_context
def explain(
    context: click.Context, log: str, as_json: bool, with_check: bool, report: str | None, lang: str | None
) -> None:
    """Say which known problem a log or traceback shows, its cause, and what to do; offline.

    Exit status: 0 a known problem was found, 1 none, 2 wrong usage.
    """
    from glmdoctor.explain import explain as read
    from glmdoctor.reports import explanation

    language = output.language(lang, ascii_safe=as_json)
    with opened(log) as stream:
        found = read(stream)
    confirmed = None
    if with_check:
        confirmed = asked(found.matches)
        found = reordered(found, confirmed)
    if as_json:
        from glmdoctor.reports.json import dumps

        output.emit(dumps(explanation.as_dict(found, language, confirmed)))
    else:
        output.emit(output.laid_out(explanation.lines(found, language, confirmed)))
    if report is not None:
        write_report(report, found, language)
    context.exit(0 if found.matches else NOTHING_KNOWN)


def write_report(path: str, found: Explanation, language: str) -> None:
    from glmdoctor.diagnosis import judge, this_host
    from glmdoctor.reports import bug_report

    output.write_file(path, bug_report.render(found, judge(this_host()), language))


@contextmanager
def opened(log: str) -> Iterator[BinaryIO]:
    if log == "-":
        if sys.stdin.isatty():
            output.note("paste the log, then end it with Ctrl-D")
        yield sys.stdin.buffer
        return
    try:
        with open(log, "rb") as file:
            yield file
    except OSError as error:
        raise click.UsageError(f"cannot read {log}: {error.strerror}") from error


def asked(matches: tuple[Match, ...]) -> dict[str, bool | None]:
    """Which of the problems this machine has; None where no check can tell."""
    from glmdoctor import checks
    from glmdoctor.diagnosis import judge, this_host
    from glmdoctor.findings import Status

    deciding = {m.problem: {c.id for c in checks.ALL if m.problem in c.problems and not c.deep} for m in matches}
    chosen = set().union(*deciding.values())
    findings = judge(this_host(), only=sorted(chosen)).report.findings if chosen else ()
    answers: dict[str, bool | None] = {}
    for problem, ids in deciding.items():
        looked = [
            f for f in findings if f.id in ids and f.status not in (Status.SKIPPED, Status.UNKNOWN, Status.CRASHED)
        ]
        answers[problem] = any(f.bad and f.problem == problem for f in looked) if looked else None
    return answers


def reordered(found: Explanation, confirmed: dict[str, bool | None]) -> Explanation:
    """What this machine has comes first, what it has not last."""
    rank = {True: 0, None: 1, False: 2}
    return replace(found, matches=tuple(sorted(found.matches, key=lambda match: rank[confirmed[match.problem]])))
