"""A whole cluster's verdicts in one table: a row for each node, its root cause and what to do there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from glmdoctor import __version__
from glmdoctor.messages import Text, text
from glmdoctor.reports.html import STYLE
from glmdoctor.reports.json import dumps
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.terminal import Line
from glmdoctor.reports.view import shown

SCHEMA_VERSION = 1
FORMATS = ("terminal", "json", "html")
VERDICTS = {
    "healthy": text("healthy"),
    "degraded": text("degraded"),
    "broken": text("broken"),
    "unreachable": text("unreachable"),
}
STYLES = {"healthy": "green", "degraded": "bold yellow", "broken": "bold red", "unreachable": "bold red"}
CLASSES = {"healthy": "ok", "degraded": "warn", "broken": "fail", "unreachable": "fail"}
# As ``glmcore.cluster.nodes.REASONS``, in the doctor's languages.
SAME_PATH = text("copy the checkpoint to the same path")
REASONS = {
    "absent": (None, text("see that the machine is there, and that Ray runs on it")),
    "silent": (None, text("install glmcore there, in the Python that started Ray")),
    "versions": (text("{name} {found} is there, {wanted} here"), text("install the same versions on all nodes")),
    "files-none": (None, SAME_PATH),
    "files-missing": (text("the checkpoint there lacks {files}"), SAME_PATH),
    "files-other": (text("the checkpoint there has another {files}"), SAME_PATH),
    "no-report": (text("the doctor gave no report there: {why}"), text("run glmdoctor check there")),
    "unhealthy": (None, None),
}


@dataclass(frozen=True)
class Row:
    """One node: ``report`` is its own ``check --json``, ``kind`` and ``values`` say why it would get nothing."""

    node: str
    address: str
    verdict: str
    kind: str
    values: dict[str, str]
    cause: dict[str, Any] | None  # the report's root cause
    report: dict[str, Any]

    @property
    def why(self) -> Text | str:
        """The reason against it, else the root cause of its warnings; "" where nothing is wrong."""
        if not self.kind:
            return self.cause["title"] if self.cause else ""
        sentence = REASONS[self.kind][0]
        return self.values["why"] if sentence is None else Text(sentence.template, self.values)

    @property
    def fix(self) -> Text | str:
        if not self.kind:
            return ""
        return REASONS[self.kind][1] or self.values["fix"]

    @property
    def exit_status(self) -> int:
        """As of a check there."""
        counts = self.report.get("summary", {})
        if self.kind or counts.get("fail"):
            return 1
        return 3 if counts.get("crashed") else 0


def exit_status(rows: Sequence[Row]) -> int:
    """The worst node's: a failure before a check that crashed."""
    found = {row.exit_status for row in rows}
    return next((status for status in (1, 3) if status in found), 0)


def lines(rows: Sequence[Row], language: str) -> Iterator[Line]:
    """The table for the terminal; columns are as wide as their widest cell in the eyes of a terminal."""
    yield Line(f"glmdoctor {__version__}", style="bold")
    for row, cells in zip(rows, aligned(map(head, rows, [language] * len(rows))), strict=True):
        yield Line("")
        yield Line(cells, 0, STYLES.get(row.verdict, ""), verbatim=True)
        if row.why:
            yield Line(shown(row.why, language), 4)
        if row.fix:
            yield Line(f"{text('There:').render(language)} {shown(row.fix, language)}", 4, "cyan")
    yield Line("")
    yield Line(summary(rows).render(language), 0, "bold")


def summary(rows: Sequence[Row]) -> Text:
    fit = sum(not row.kind for row in rows)
    return text("{fit} of {all} nodes are fit", fit=fit, all=len(rows))


def head(row: Row, language: str) -> tuple[str, ...]:
    return shown(row.node, language), shown(row.address, language), word(row, language)


def word(row: Row, language: str) -> str:
    return VERDICTS[row.verdict].render(language) if row.verdict in VERDICTS else shown(row.verdict, language)


def aligned(table: Iterable[tuple[str, ...]]) -> list[str]:
    from rich.cells import cell_len, set_cell_size

    rows = list(table)
    widths = [max(map(cell_len, column), default=0) for column in zip(*rows, strict=True)]
    return ["  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows]


def render(form: str, rows: Sequence[Row], language: str) -> str:
    """In one of FORMATS but the terminal's."""
    return as_json(rows, language) if form == "json" else as_html(rows, language, Redactor.of_this_machine())


def as_json(rows: Sequence[Row], language: str) -> str:
    nodes = [
        {
            "node": row.node, "address": row.address, "verdict": row.verdict, "root_cause": row.cause,
            "against": shown(row.why, language) if row.kind else None,
            "fix": shown(row.fix, language) if row.kind else None, "report": row.report,
        }
        for row in rows
    ]  # fmt: skip
    return dumps({"schema_version": SCHEMA_VERSION, "glmdoctor": __version__, "nodes": nodes})


def as_html(rows: Sequence[Row], language: str, redact: Redactor) -> str:
    """One self-contained page, redacted: the table, and below it what is wrong on each node."""
    return "\n".join(page(rows, language, redact)) + "\n"


def page(rows: Sequence[Row], language: str, redact: Redactor) -> Iterator[str]:
    def told(value: Text | str) -> str:
        return escape(redact(shown(value, language)))

    total = escape(summary(rows).render(language))
    yield f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>glmdoctor: {total}</title><style>{STYLE}</style></head><body>"
    yield f'<h1>glmdoctor {__version__}: {total}</h1><table class="checked">'
    for row in rows:
        mark = f'<span class="word-{CLASSES.get(row.verdict, "fail")}">{escape(word(row, language))}</span>'
        cells = [told(row.node), told(row.address), mark, told(row.why), told(row.fix)]
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    yield "</table>"
    for row in rows:
        bad = [each for each in row.report.get("findings", ()) if each["status"] in ("fail", "warn")]
        if bad:
            yield f"<h2>{told(row.node)}</h2>"
        for each in bad:
            yield f'<section class="{each["status"]}"><h3>{told(each["title"])}</h3><p>{told(each["detail"])}</p>'
            commands = [command for remedy in each["remedies"] for command in (remedy["title"], *remedy["commands"])]
            yield f"<pre>{told(chr(10).join(commands))}</pre></section>" if commands else "</section>"
    yield "</body></html>"
