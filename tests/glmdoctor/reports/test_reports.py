"""Every form of the report, on a machine with findings of every status."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as xml
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from glmdoctor import reports
from glmdoctor.diagnosis import Diagnosis
from glmdoctor.findings import Finding, Report, Status
from glmdoctor.messages import text
from glmdoctor.reports import github, html, junit, markdown, terminal
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.view import abridged, entries

ALICE = Redactor("/home/alice", ("alice",))
SECRETS = ("alice", "hf_abcdefghijklmnop", "10.1.2.3", "example.org")
SHARED = {"markdown": markdown, "html": html, "junit": junit, "github": github}


def test_consequences_are_folded_under_the_cause_at_the_end_of_their_chain(diagnosis: Diagnosis) -> None:
    shown = [(e.finding.id, [c.id for c in e.consequences]) for e in entries(diagnosis.report)]
    assert shown == [
        ("cuda.chain", ["cpm.cuda", "cpm.deep"]),
        ("torch.old", []),
        ("x.crash", []),
        ("x.unknown", []),
    ]


def test_many_checks_of_one_subject_are_one_word() -> None:
    ids = ["kernel.given", "model.path", "model.files", "kernel.given", "model.config", "model.shapes", "gpu.link"]
    assert abridged(ids) == "kernel.given, model.* (4), gpu.link"


def test_terminal_says_the_cause_first_and_what_was_checked_last(diagnosis: Diagnosis) -> None:
    plain = terminal.render(diagnosis, "en")
    order = [
        "The link leads nowhere",
        "What follows from it:",
        "cpm_kernels finds no libcuda",
        "What to do:",
        "ln -s 'a b'",
    ]
    order += ["torch is old: 50%", "✓ system.cpu", "- wsl.one, wsl.two: This is not WSL.", "broken: something"]
    positions = [plain.index(words) for words in order]
    assert positions == sorted(positions)
    assert "\x1b" not in plain and "\x00" not in plain


def test_terminal_without_unicode_is_ascii(diagnosis: Diagnosis) -> None:
    assert terminal.render(diagnosis, "en", unicode=False).isascii()


def test_terminal_wraps_chinese_at_its_width(diagnosis: Diagnosis) -> None:
    from rich.cells import cell_len

    drawn = terminal.rich(terminal.lines(diagnosis, "zh", True), 60, colours=False)
    rows = re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines()
    assert "由此引起：" in drawn
    assert max(cell_len(row) for row in rows) <= 60


def test_a_command_is_never_broken(diagnosis: Diagnosis) -> None:
    drawn = terminal.rich(terminal.lines(diagnosis, "en", True), 20, colours=True)
    assert "ln -s 'a b' /home/alice/x" in re.sub(r"\x1b\[[0-9;]*m", "", drawn)


def test_json_is_what_the_contract_says(diagnosis: Diagnosis) -> None:
    report = json.loads(reports.render("json", diagnosis, "en"))
    assert set(report) == {"schema_version", "glmdoctor", "created", "host", "verdict", "summary", "findings"}
    assert report["schema_version"] == 1 and report["verdict"] == "broken"
    assert report["summary"] == {"ok": 1, "warn": 2, "fail": 2, "skipped": 2, "unknown": 1, "crashed": 1}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", report["created"])
    assert report["host"]["os"]["system"] == "Linux"
    first, second = report["findings"][:2]
    assert set(first) == {
        "id",
        "problem",
        "status",
        "title",
        "detail",
        "evidence",
        "root_cause",
        "caused_by",
        "remedies",
    }
    assert first["root_cause"] and second["caused_by"] == ["cuda.chain"] and not second["root_cause"]
    assert set(first["remedies"][0]) == {"id", "title", "automatic", "needs_root", "reversible", "commands"}
    assert next(f for f in report["findings"] if f["status"] == "ok")["problem"] is None


def test_markdown_keeps_its_form(diagnosis: Diagnosis) -> None:
    page = markdown.render(diagnosis, "en", ALICE)
    assert "### failed: The link leads nowhere" in page
    assert "| torch | 2.4.0+cu121 |" in page
    assert "```text\ngcc said: bad <b> | `x` _y_\nat ~/a.c, key [secret]\n```" in page
    assert "ln -s 'a b' ~/x" in page


@pytest.mark.parametrize("form", SHARED)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_pasted_elsewhere_tells_nobody_who_or_where(diagnosis: Diagnosis, form: str, language: str) -> None:
    page = SHARED[form].render(diagnosis, language, ALICE)
    assert not [secret for secret in SECRETS if secret in page]


def test_junit_counts_and_names(diagnosis: Diagnosis) -> None:
    suite = xml.fromstring(junit.render(diagnosis, "en", ALICE).split("\n", 1)[1])
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "9",
        "failures": "2",
        "errors": "1",
        "skipped": "3",
    }
    cases = {case.get("name"): case for case in suite}
    broken = cases["cuda.chain (libcuda-link-broken)"].find("failure")
    assert broken is not None and broken.get("message") == "The link leads nowhere"
    assert "ln -s 'a b' ~/x" in (broken.text or "")
    assert list(cases["system.cpu"]) == []


def test_github_annotations_are_one_line_each_and_escaped(diagnosis: Diagnosis) -> None:
    rows = github.render(diagnosis, "en", ALICE).splitlines()
    assert rows[0].startswith("::error title=The link leads nowhere::gcc said: bad")
    assert "%0Aat ~/a.c" in rows[0]
    assert rows[1].startswith("::warning title=torch is old%3A 50%25::")
    assert len(rows) == 5 and not rows[4].startswith("::")


class Page(HTMLParser):
    """Collects what a page would load, and whether its elements close."""

    VOID = frozenset({"meta", "br", "path", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [f"{tag} {k}={v}" for k, v in attrs if k in ("src", "href", "xlink:href", "onload")]
        assert tag != "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_whole_and_loads_nothing(diagnosis: Diagnosis, language: str) -> None:
    page = Page()
    source = html.render(diagnosis, language, ALICE)
    page.feed(source)
    assert page.open == [] and page.outside == [] and "url(http" not in source and "@import" not in source
    assert "<b>" not in source.split("gcc said", 1)[1][:60]


def test_the_drawing_shows_who_gets_which_file(diagnosis: Diagnosis) -> None:
    page = Page()
    page.feed(html.render(diagnosis, "en", ALICE))
    drawn = [words for words in page.texts if words.strip()]
    for words in (
        "cpm_kernels: cuda",
        "torch, by the dynamic loader",
        "NVML (pynvml)",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14",
        "/usr/local/cuda/lib64/stubs/libcuda.so",
        "550.54.14, x86_64",
        "x86_64, dangling",
        "x86_64, stub",
        "finds nothing",
    ):
        assert words in drawn, words


def test_no_two_boxes_of_the_drawing_overlap(diagnosis: Diagnosis) -> None:
    source = html.render(diagnosis, "en", ALICE)
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', source)
    boxes = [tuple(map(float, box)) for box in found]
    assert len(boxes) >= 9
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[i + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MEASURE = """<script>document.title = JSON.stringify({
  spare: [...document.querySelectorAll('svg g')].map(g => g.querySelector('rect').getBBox().width
    - Math.max(...[...g.querySelectorAll('text')].map(t => t.getBBox().width))),
  arrows: document.querySelectorAll('svg path.takes').length,
  loaded: performance.getEntriesByType('resource').length})</script>"""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_in_a_real_browser(diagnosis: Diagnosis, language: str, tmp_path: Path) -> None:
    """Every label fits its box as the browser draws it, each consumer has its arrow, and nothing is fetched."""
    browser = os.environ.get("GLM_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here (GLM_BROWSER names one)")
    page = tmp_path / "report.html"
    page.write_text(html.render(diagnosis, language, ALICE).replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    dom = subprocess.run([browser, *options, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\{.*?\})</title>", dom)
    assert found, dom[:500]
    measured = json.loads(found.group(1))
    assert len(measured["spare"]) >= 9 and min(measured["spare"]) >= 0
    assert measured["arrows"] == 2 and measured["loaded"] == 0


@pytest.mark.parametrize(("status", "red"), [(Status.OK, False), (Status.WARN, False), (Status.FAIL, True)])
def test_the_drawing_has_the_colour_of_a_failure_only_where_a_check_fails(
    diagnosis: Diagnosis, status: Status, red: bool
) -> None:
    """The machine lacks libraries; whether that is a fault is for the checks to say."""
    finding = Finding("cuda.libcuda-link", status, text("libcuda"), text("there or not"))
    source = html.render(Diagnosis(diagnosis.host, Report((finding,))), "en", ALICE)
    drawn = source.split("<svg", 1)[1]
    assert ('<g class="bad">' in drawn) == red and "finds nothing" in drawn
    colours = dict(re.findall(r"svg \.(\w+) rect \{ ([^}]*)\}", html.STYLE))
    red_kinds = {kind for kind, style in colours.items() if "--fail" in style}
    assert red_kinds == {"bad"} and set(re.findall(r'<g class="(\w+)"', drawn)) <= {*colours, "file"}


NARROW = """<script>document.title = JSON.stringify({
  over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  words: [...document.querySelectorAll('.name')].map(cell => { const range = document.createRange(); let broken = 0;
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) { range.selectNodeContents(walk.currentNode);
      broken += new Set([...range.getClientRects()].map(r => r.top)).size > 1; }
    return broken; })})</script>"""


def test_names_of_checks_are_not_broken_within_words_on_a_narrow_page(diagnosis: Diagnosis, tmp_path: Path) -> None:
    browser = os.environ.get("GLM_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here (GLM_BROWSER names one)")
    names = ("cuda.libcuda-chain", "environment.variables", "transformers.combination-with-everything")
    long = text("Words. /usr/lib/x86_64-linux-gnu/a-long-path/libcuda.so.550.54.14 and more words after it")
    report = Report(tuple(Finding(name, Status.OK, text("t"), long) for name in names))
    source = html.render(Diagnosis(diagnosis.host, report), "en", ALICE).replace("</body>", f"{NARROW}</body>")
    page = tmp_path / "report.html"
    # A frame: headless Chromium has no window narrower than 500 pixels.
    page.write_text(f"<body><iframe width=375 height=900 srcdoc='{escape(source)}'></iframe>{FRAME}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    dom = subprocess.run([browser, *options, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\{.*?\})</title>", dom)
    assert found, dom[:500]
    assert json.loads(found.group(1)) == {"over": 0, "words": [0, 0, 0]}


FRAME = """<script>onload = () => { document.title = frames[0].document.title; }</script>"""


def test_a_healthy_machine_is_said_to_be_healthy(healthy: Diagnosis) -> None:
    for form in reports.FORMATS:
        assert "healthy" in reports.render(form, healthy, "en") or form in ("junit", "github")
    assert github.render(healthy, "en") == "1 checks: 1 ok\n"
