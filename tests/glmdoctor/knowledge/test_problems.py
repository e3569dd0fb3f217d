"""The catalogue of problems is whole and in both languages, and its tables say where they come from."""

from __future__ import annotations

import configparser
import json
import os
import re
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest
from packaging.version import Version

from glmdoctor.checks import ALL
from glmdoctor.knowledge import Problem, problems, signatures, versions
from glmdoctor.readings import ranges, torch_builds

ROOT = Path(__file__).resolve().parents[3]
CASES = Path(os.environ.get("GLM_CASES", ROOT.parent / "shared" / "cases"))
CATALOGUE = list(problems().values())


# What was found beyond the list that others rely on; it is never shortened or renamed.
ADDED = ["unsafe-pickle", "torch-unsafe-pickle", "engine-foreign", "engine-damaged", "engine-invalid"]


def test_all_110_problems_are_there_and_the_added_ones() -> None:
    assert len(CATALOGUE) == 110 + len(ADDED)
    assert all(problem.id == id for id, problem in problems().items())


def test_the_ids_are_those_that_others_rely_on() -> None:
    path = CASES / "problems.md"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    wanted = re.findall(r"^### (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(problems()) == wanted + ADDED


@pytest.mark.parametrize("problem", CATALOGUE, ids=lambda p: p.id)
def test_an_entry_is_complete(problem: Problem) -> None:
    for wording in (problem.title, problem.cause, problem.probe, problem.remedy):
        assert set(wording) == {"en", "zh"} and all(wording.values())
        assert re.search(r"[\u4e00-\u9fff]", wording["zh"]), wording
        assert not re.search(r"[\u4e00-\u9fff]", wording["en"]), wording
    assert problem.by and set(problem.by) <= {"no-root", "root", "advise"}
    assert problem.group in {"driver", "libraries", "memory", "kernel", "checkpoint", "packages", "use"}
    assert problem.source.startswith("https://") and re.fullmatch(r"\d{4}-\d\d-\d\d", problem.checked_on)


def test_each_problem_names_the_checks_that_decide_it() -> None:
    decided = {problem.id: set(problem.decided_by) for problem in CATALOGUE}
    by_checks = {id: {check.id for check in ALL if id in check.problems} for id in decided}
    assert decided == by_checks


def test_every_problem_is_known_by_a_check_or_by_its_log() -> None:
    logged = set(signatures()["problems"])
    assert not [problem.id for problem in CATALOGUE if not problem.decided_by and problem.id not in logged]


def test_checks_speak_of_known_problems() -> None:
    named = {problem for check in ALL for problem in (*check.problems, *check.explained_by)}
    assert named <= set(problems())


def test_the_needed_packages_are_those_of_setup_cfg() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = {line.split(";")[0].strip() for line in config["options.extras_require"]["core"].split("\n") if line}
    rows = {row["package"] + row["specifier"] for row in versions()["core_packages"]["rows"]}
    # cpm_kernels is an optional backend: glmcore runs without it.
    assert rows == {line for line in wanted if not line.startswith("cpm_kernels")}


def releases_tested(package: str) -> list[Version]:
    return [Version(row["version"]) for row in versions()["tested"]["rows"] if row["package"] == package]


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_every_bound_follows_from_the_newest_tested(package: str) -> None:
    """setup.cfg (which glmcore's warnings go by), the doctor's row and the releases that it proposes."""
    newest = max(releases_tested(package))
    assert releases_tested(package)[-1] == newest
    bound = f"<{newest.major}.{newest.minor + 1}"
    row = next(row for row in versions()["core_packages"]["rows"] if row["package"] == package)
    assert row["specifier"].split(",")[1] == bound, "and setup.cfg's is the same: see above"
    proposed = {
        "torch": torch_builds.builds()[0].version,
        "transformers": ranges.transformers_releases()[0]["version"],
    }
    assert proposed[package] == str(newest)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_what_runs_these_tests_stands_in_the_table(package: str) -> None:
    """So that a newer release cannot come into use, and into setup.cfg, without the row that dates its test."""
    installed, newest = Version(installed_version(package)), max(releases_tested(package))
    assert (installed.major, installed.minor) <= (newest.major, newest.minor)


def test_the_build_of_torch_for_a_cpu_is_the_newest_tested() -> None:
    table = json.loads((ROOT / "glmdoctor" / "knowledge" / "torch_builds.json").read_text(encoding="utf-8"))
    assert table["tested"]["version"] == str(max(releases_tested("torch")))


def test_every_table_of_versions_has_a_source_and_a_date() -> None:
    for name, table in versions().items():
        assert table["source"] and re.fullmatch(r"\d{4}-\d\d-\d\d", table["checked_on"]) and table["rows"], name
