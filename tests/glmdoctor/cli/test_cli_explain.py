"""`glmdoctor explain` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from glmdoctor.cli.application import application

LOG = "line one\nRuntimeError: Library cuda is not initialized\n"


def explain(*arguments: str, log: str | bytes = "") -> Result:
    return CliRunner().invoke(application, ["explain", *arguments], input=log)


def test_a_known_problem_is_status_0_and_json_as_the_contract_says() -> None:
    done = explain("--json", "-", log=LOG)
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and set(report) == {"schema_version", "matches"} and report["schema_version"] == 1
    match = report["matches"][0]
    assert set(match) == {"problem", "confidence", "lines", "cause", "remedies"}
    assert match["problem"] == "libcuda-not-in-cuda-path" and match["lines"] == [2]
    assert 0.9 < match["confidence"] <= 1 and match["cause"] and match["remedies"][0]["title"]


def test_nothing_known_is_status_1_and_an_empty_list() -> None:
    done = explain("--json", log="all is well\n")
    assert done.exit_code == 1 and json.loads(done.stdout) == {"schema_version": 1, "matches": []}


@pytest.mark.parametrize(
    ("log", "command"),
    [
        ("something odd about safetensors\n", "glmdoctor check --deep --model DIR"),
        ("NVRM: a line that nobody knows\n", "nvidia-smi"),
        ("all is well\n", "glmdoctor check"),
    ],
)
def test_where_nothing_is_known_one_question_is_asked(log: str, command: str) -> None:
    done = explain(log=log)
    assert done.exit_code == 1 and "What would tell more" in done.stdout and command in done.stdout
    assert "进一步的线索" in explain("--lang", "zh", log=log).stdout
    assert "What would tell more" not in explain(log=LOG).stdout


def test_a_report_holds_the_log_the_question_and_the_machine_and_no_names(tmp_path: Path) -> None:
    log = "at https://someone:secret@git.internal.example/x\nOSError: /home/someone/m/libcuda.so.1: file too short\n"
    done = explain("--report", str(tmp_path / "bug.md"), log=log)
    report = (tmp_path / "bug.md").read_text(encoding="utf-8")
    assert done.exit_code == 0 and "libcuda-link-broken" in done.stdout
    assert report.index("## What the log shows") < report.index("## What is open") < report.index("## glmdoctor ")
    assert "libcuda-link-broken" in report and "file too short" in report and "someone" not in report


def test_a_report_of_nothing_known_asks_what_would_tell_more(tmp_path: Path) -> None:
    done = explain("--lang", "zh", "--report", str(tmp_path / "bug.md"), log="something odd about safetensors\n")
    report = (tmp_path / "bug.md").read_text(encoding="utf-8")
    assert done.exit_code == 1 and "尚待确认" in report and "glmdoctor check --deep --model DIR" in report


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text(LOG, encoding="utf-8")
    done = explain(str(file))
    assert done.exit_code == 0 and "libcuda-not-in-cuda-path" in done.stdout and "Line 2" in done.stdout


def test_chinese() -> None:
    assert "处理办法" in explain("--lang", "zh", log=LOG).stdout


def test_where_several_fit_the_probe_that_decides_is_named() -> None:
    done = explain(log="CUDA Runtime Error: CUDA driver version is insufficient for CUDA runtime version\n")
    assert "no-nvidia-driver" in done.stdout and "cuda-driver-too-old" in done.stdout
    assert done.stdout.count("What decides whether it is this") == 2
    assert "What decides" not in explain(log=LOG).stdout


def test_this_machine_is_asked_with_check() -> None:
    done = explain("--check", "--json", log="gcc: command not found\nCUDA out of memory\n")
    confirmed = {match["problem"]: match["confirmed"] for match in json.loads(done.stdout)["matches"]}
    assert confirmed["cuda-oom"] is None
    assert confirmed["gcc-missing"] in (True, False)


def test_what_this_machine_does_not_have_comes_last() -> None:
    done = explain("--check", "--json", log="The requested model is not here: CUDA out of memory\ngcc: not found\n")
    ranks = [{True: 0, None: 1, False: 2}[match["confirmed"]] for match in json.loads(done.stdout)["matches"]]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("log", [b"\xff\xfe", b"\x00" * 100_000, b"\xef\xbb\xbf", b"\x80\x81"])
def test_no_log_at_all_is_no_crash(log: bytes) -> None:
    assert explain(log=log).exit_code == 1
