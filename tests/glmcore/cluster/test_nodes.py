"""Which node may get anything, by what it said of itself; the doctor says the same in its languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmcore.cluster import probe
from glmcore.cluster.fingerprints import differences, fingerprints
from glmcore.cluster.nodes import REASONS, Node, judged
from glmcore.programs import Done
from glmdoctor.cli.nodes import check_nodes
from glmdoctor.reports.cluster import REASONS as IN_THE_DOCTOR
from glmdoctor.reports.cluster import Row, as_html, exit_status, lines
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.terminal import plain

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "glmcore": "0.1.0"}
REFERENCE = {"versions": VERSIONS, "files": {"config.json": "a", "model.safetensors": "b"}}
HEALTHY = {"verdict": "healthy", "findings": [], "summary": {}}


def finding(
    title: str, status: str = "fail", root: bool = True, *commands: str, automatic: bool = False
) -> dict[str, Any]:
    remedy = {"title": "do it", "commands": list(commands), "automatic": automatic}
    return {"id": "x", "title": title, "status": status, "root_cause": root, "remedies": [remedy]}


def broken(*findings: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": "broken", "findings": list(findings)}


@pytest.mark.parametrize(
    "facts, kind, against, fix",
    [
        ({}, "", "", ""),
        ({"versions": {**VERSIONS, "python": "3.11.9"}}, "", "", ""),
        ({"versions": {**VERSIONS, "python": "3.12.7"}}, "versions", "python 3.12.7 is there", "same versions"),
        ({"versions": {**VERSIONS, "ray": "2.61.0"}}, "versions", "ray 2.61.0 is there, 2.60.0 here", "same versions"),
        ({"versions": {"python": "3.11.7"}}, "versions", "ray none is there", "same versions"),
        ({"files": {"config.json": "a"}}, "files-missing", "lacks model.safetensors", "same path"),
        ({"files": {"config.json": "a", "model.safetensors": "c"}}, "files-other", "another model.saf", "same path"),
        ({"files": {"error": "no such folder"}}, "files-none", "no such folder", "same path"),
        ({"error": "No module named 'glmcore'"}, "silent", "No module named 'glmcore'", "install glmcore"),
        ({"absent": "no answer within 180 s"}, "absent", "no answer", "that Ray runs on it"),
        ({"report": {"error": "exit status 3"}}, "no-report", "exit status 3", "glmdoctor check"),
        (
            {"report": broken(finding("it follows", root=False), finding("no gcc", "fail", True, "apt install gcc"))},
            "unhealthy", "no gcc", "apt install gcc",
        ),
        ({"report": broken(finding("a link", automatic=True))}, "unhealthy", "a link", "glmdoctor fix --model '/m y'"),
        ({"report": {**HEALTHY, "verdict": "degraded", "findings": [finding("old driver", "warn")]}}, "", "", ""),
        ({"report": broken(finding("an \x1b[31m escape"))}, "unhealthy", "an \\x1b[31m escape", "do it"),
    ],
)  # fmt: skip
def test_what_is_against_a_node(facts: dict[str, Any], kind: str, against: str, fix: str) -> None:
    said = judged({"versions": VERSIONS, "files": REFERENCE["files"], "report": HEALTHY, **facts}, REFERENCE, "/m y")
    assert said.kind == kind and against in said.against and fix in said.fix


def test_a_node_without_the_kernel_is_no_node_for_a_model_that_is_quantised_while_loading() -> None:
    """Its doctor, who sees the checkpoint, only warns."""
    warnings = [{**finding(id, "warn", True, "apt install gcc"), "id": id} for id in ("kernel.build", "compiler.found")]
    facts = {
        "versions": VERSIONS, "files": REFERENCE["files"], "devices": [{"name": "cpu"}],
        "report": {"verdict": "degraded", "findings": warnings},
    }  # fmt: skip
    assert not judged(facts, REFERENCE, None).kind
    said = judged(facts, REFERENCE, None, kernel=True)
    assert (said.kind, said.against, said.fix) == ("unhealthy", "compiler.found", "apt install gcc")
    assert not judged({**facts, "report": HEALTHY}, REFERENCE, None, kernel=True).kind
    assert not judged({**facts, "devices": [{"name": "cuda:0"}, {"name": "cpu"}]}, REFERENCE, None, kernel=True).kind


def test_many_missing_files_are_counted() -> None:
    missing, other = differences({}, {f"{n}.bin": "x" for n in range(7)})
    assert len(missing) == 7 and not other
    facts = {"versions": VERSIONS, "files": {}, "report": HEALTHY}
    said = judged(facts, {**REFERENCE, "files": {f"{n}.bin": "x" for n in range(7)}}, None)
    assert said.against.endswith("0.bin, 1.bin, 2.bin and 4 more")


def test_a_file_is_hashed_again_when_it_changes(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmcore.digest.user_folder", lambda *_: str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1234")
    (folder / "tokenizer_config.json").write_text("{}")
    first = fingerprints(folder)
    assert first == fingerprints(folder)
    assert set(first) == {"config.json", "tokenizer_config.json", "model.safetensors"}
    (folder / "model.safetensors").write_bytes(b"12345")
    assert differences(fingerprints(folder), first) == ([], ["model.safetensors"])


def test_an_adapter_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmcore.digest.user_folder", lambda *_: None)
    for folder, names in {
        "model": ("config.json", "model.safetensors"),
        "lora": ("adapter_config.json", "adapter_model.safetensors", "README.md"),
        "prefix": ("config.json", "pytorch_model.bin"),
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(folder)
    model = {"config.json", "model.safetensors"}
    lora = fingerprints(tmp_path / "model", tmp_path / "lora")
    assert set(lora) == model | {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    prefix = fingerprints(tmp_path / "model", tmp_path / "prefix")
    assert set(prefix) == model | {"adapter/config.json", "adapter/pytorch_model.bin"}
    (tmp_path / "lora" / "adapter_model.safetensors").write_text("another one")
    assert differences(fingerprints(tmp_path / "model", tmp_path / "lora"), lora) == (
        [], ["adapter/adapter_model.safetensors"]
    )  # fmt: skip


def test_a_node_s_doctor_is_told_the_folder_of_a_model_in_the_hub_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor is a double that says what it was started with."""
    repository = tmp_path / "hub" / "models--glm--demo"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("glmcore.programs.run", lambda command, *_: Done(0, json.dumps({"asked": command}), ""))
    assert probe.report("glm/demo", "en")["asked"][-2:] == ["--model", str(repository / "snapshots" / "abc")]
    assert probe.report("glm/other", "en")["asked"][-2:] == ["--model", "glm/other"]


def test_cards_of_which_ray_does_not_know_are_left_alone() -> None:
    names = ["cuda:0", "cuda:1", "cpu"]
    facts = {"devices": [{"name": name, "budget": 1, "bandwidth": None} for name in names]}
    for gpus, expected in ((0, ["cpu"]), (1, ["cuda:0", "cpu"]), (2, names), (8, names)):
        assert [device.name for device in Node("id", "node1", "", facts, gpus=gpus).devices] == expected


def test_the_doctor_says_the_same() -> None:
    assert set(REASONS) == set(IN_THE_DOCTOR)
    for kind, templates in REASONS.items():
        for template, own in zip(templates, IN_THE_DOCTOR[kind], strict=True):
            assert own is None or own.template == template


ROWS = [
    Row("node1", "10.0.0.1", "healthy", "", {}, None, HEALTHY),
    Row("node2", "10.0.0.2", "broken", "unhealthy", {"why": "<b>no gcc</b>", "fix": "apt install gcc"}, None, {
        "verdict": "broken", "summary": {"fail": 1},
        "findings": [{**finding("<b>no gcc</b>"), "detail": "of /home/jo"}],
    }),
    Row("node3", "10.0.0.3", "healthy", "files-missing", {"files": "a.bin"}, None, HEALTHY),
]  # fmt: skip


def test_the_table_for_the_terminal_in_both_languages() -> None:
    english, chinese = plain(lines(ROWS, "en")), plain(lines(ROWS, "zh"))
    assert "node2  10.0.0.2  broken" in english and "There: apt install gcc" in english
    assert "1 of 3 nodes are fit" in english and "the checkpoint there lacks a.bin" in english
    assert "该节点的检查点缺少 a.bin" in chinese and "在该节点： 把检查点复制到相同路径" in chinese


def test_the_doctor_s_command_shows_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cluster is a double; a real one is asked in test_cluster.py."""
    monkeypatch.setattr("glmdoctor.cli.nodes.examined", lambda *asked: ROWS)
    assert check_nodes("auto", None, "terminal", "en") == 1
    assert "node2  10.0.0.2  broken" in (said := capsys.readouterr().out) and "1 of 3 nodes are fit" in said


def test_the_page_shows_words_as_words_and_nobody_s_home() -> None:
    page = as_html(ROWS, "zh", Redactor())
    assert page.count("<tr>") == 3 and "&lt;b&gt;no gcc" in page and "<b>" not in page and "<script" not in page
    assert "有故障" in page and "/home/jo" not in page


def test_the_worst_node_decides_the_exit_status() -> None:
    def row(kind: str = "", **counts: int) -> Row:
        return Row("node1", "", "healthy", kind, {}, None, {"summary": counts})

    assert exit_status([row(), row()]) == 0
    assert exit_status([row(crashed=1), row()]) == 3
    assert exit_status([row(crashed=1), row("versions")]) == exit_status([row(fail=1), row()]) == 1
