"""The collected failure reports: as they are, and wrapped as terminals, containers and notebooks wrap them."""

from __future__ import annotations

import io
import json
import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from glmdoctor.explain import explain

ROOT = Path(__file__).resolve().parents[3]
CASES = Path(os.environ.get("GLM_CASES", ROOT.parent / "shared" / "cases")) / "reports.jsonl"
HARMLESS = ("none", "unrelated")
pytestmark = pytest.mark.skipif(not CASES.is_file(), reason=f"the collected reports are not here: {CASES}")


def cases() -> list[dict[str, str]]:
    return [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()] if CASES.is_file() else []


def first(log: bytes) -> str | None:
    matches = explain(io.BytesIO(log)).matches
    return matches[0].problem if matches else None


def as_is(log: str) -> bytes:
    return log.encode()


def windows(log: str) -> bytes:
    return log.replace("\n", "\r\n").encode("utf-16")


def coloured(log: str) -> bytes:
    return "\n".join(f"\x1b[31m{line[:3]}\x1b[0m{line[3:]}\x1b[K" for line in log.split("\n")).encode()


def docker(log: str) -> bytes:
    lines = ({"log": line + "\n", "stream": "stderr", "time": "2026-01-02T03:04:05.678Z"} for line in log.split("\n"))
    return "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()


def kubernetes(log: str) -> bytes:
    return "\n".join(f"2026-01-02T03:04:05.678901234Z stderr F {line}" for line in log.split("\n")).encode()


def notebook(log: str) -> bytes:
    """As Jupyter stores a traceback: coloured, one JSON string for each part."""
    parts = [f"\x1b[0;31m{part}\x1b[0m" for part in log.split("\n")]
    return json.dumps({"output_type": "error", "traceback": parts}, indent=1).encode()


def boxed(log: str) -> bytes:
    """As rich frames a traceback: in a box, broken at words."""
    rows = [row for line in log.split("\n") for row in textwrap.wrap(line, 96, break_long_words=False) or [""]]
    return "\n".join(["╭── Traceback ──╮", *(f"│ {row:<96} │" for row in rows), "╰──────╯"]).encode()


def quoted(log: str) -> bytes:
    return "\n".join(f"> {line}" for line in log.split("\n")).encode()


@pytest.mark.parametrize(
    ("wrap", "least"),
    [
        (as_is, 0.97),
        (windows, 0.97),
        (coloured, 0.95),
        (docker, 0.95),
        (kubernetes, 0.93),
        (notebook, 0.93),
        (boxed, 0.93),
        (quoted, 0.95),
    ],
)
def test_the_right_problem_comes_first(wrap: Callable[[str], bytes], least: float) -> None:
    known = [case for case in cases() if case["problem"] not in HARMLESS]
    wrong = {c["id"]: (c["problem"], got) for c in known if (got := first(wrap(c["log"]))) != c["problem"]}
    assert 1 - len(wrong) / len(known) >= least, wrong


@pytest.mark.parametrize("wrap", [as_is, docker, boxed])
def test_healthy_and_unrelated_logs_give_no_match(wrap: Callable[[str], bytes]) -> None:
    harmless = [case for case in cases() if case["problem"] in HARMLESS]
    alarms = {c["id"]: got for c in harmless if (got := first(wrap(c["log"]))) is not None}
    assert len(alarms) / len(harmless) <= 0.03, alarms


def test_the_lines_named_are_those_that_tell() -> None:
    for case in cases():
        count = case["log"].count("\n") + 1
        for match in explain(io.BytesIO(case["log"].encode())).matches:
            assert match.lines and all(1 <= line <= count for line in match.lines), case["id"]
