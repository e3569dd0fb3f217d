"""The plan as a shell script: it does what the plan says, or stops where the machine is no longer as it was seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from glmdoctor.actions import Action, PlaceLink, RefreshLinkerCache, WriteFile, digest
from glmdoctor.actions.disk import Disk
from glmdoctor.actions.packages import InstallPackages
from glmdoctor.messages import text
from glmdoctor.remedies import Plan
from glmdoctor.repair.executor import prepare
from glmdoctor.reports.script import script

OLD, NEW = "it's\nold", "it's \\n $HOME `new`\n\ttoo\n\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """No fake root: a script writes to the paths that it names."""
    place = tmp_path / "a folder with 'quotes'"
    place.mkdir()
    (place / "target").write_text("x")
    (place / "link").symlink_to("elsewhere")
    (place / "file").write_text(OLD)
    (place / "file").chmod(0o600)
    return place


def written(folder: Path) -> str:
    actions: tuple[Action, ...] = (
        PlaceLink(f"{folder}/link", f"{folder}/target"),
        PlaceLink(f"{folder}/new/folder/link", f"{folder}/target"),
        WriteFile(f"{folder}/file", NEW, digest(OLD)),
    )
    plan = Plan("mend", text("Mend\nall"), ("a.check",), actions, commands=("export A=b",))
    return script(prepare([plan, plan], Disk(), "RUN"), (), "en")


def run(content: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh"], input=content, capture_output=True, text=True)


def test_it_does_what_the_plan_says_and_keeps_the_file(folder: Path) -> None:
    done = run(written(folder))
    assert done.returncode == 0, done.stderr
    assert os.readlink(folder / "link") == "target"
    assert os.readlink(folder / "new" / "folder" / "link") == str(folder / "target")
    assert (folder / "file").read_text() == NEW and (folder / "file").stat().st_mode & 0o777 == 0o600
    [kept] = folder.glob(".glmdoctor-*.kept")
    assert kept.read_text() == OLD and not list(folder.rglob("*.new"))


@pytest.mark.parametrize("name, change", [("file", "edited"), ("link", "led away"), ("new", "made")])
def test_it_stops_where_something_has_changed(folder: Path, name: str, change: str) -> None:
    content, place = written(folder), folder / name
    if change == "led away":
        place.unlink()
        place.symlink_to("third")
    else:
        place.write_text(change)
    done = run(content)
    assert done.returncode == 1 and str(place) in done.stderr and "has changed" in done.stderr
    assert place.is_symlink() or place.read_text() == change


def test_commands_of_the_system_and_of_pip_are_quoted() -> None:
    actions: tuple[Action, ...] = (RefreshLinkerCache(), InstallPackages("/a b/python", ("x==2",), ("x==1",)))
    content = script(prepare([Plan("p", text("P"), (), actions)], Disk(), "RUN"), (), "zh")
    assert "ldconfig -X -C" in content and "'/a b/python' -m pip install --no-deps x==2" in content
    assert subprocess.run(["sh", "-n"], input=content, text=True).returncode == 0


def test_fix_writes_it_and_does_nothing(root: Any, tmp_path: Path) -> None:
    root.driver(root.MODULE)
    root.toolkit()
    root.refresh_linker_cache()
    before, file = root.tree(journal=True), tmp_path / "repair.sh"
    shown = root.glmdoctor("fix", "--symlink", "--script", "-")
    assert shown.returncode == 0 and shown.stdout.startswith("#!/bin/sh\n"), shown.stderr
    assert "\nln -s" in shown.stdout and "/usr/local/cuda-12.2/lib64/libcuda.so\n" in shown.stdout
    assert root.glmdoctor("fix", "--symlink", "--script", str(file)).stdout == ""
    assert file.read_text().startswith("#!/bin/sh\n")
    assert root.tree(journal=True) == before
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, str(file)], check=True)


def test_a_folder_whose_name_is_no_utf_8_survives_the_script(tmp_path: Path) -> None:
    """Linux's names are bytes: Latin-1 ones reach Python as lone surrogates, and the file as the bytes they were."""
    from glmdoctor.cli.output import write_file

    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(folder)
    plan = Plan("mend", text("Mend"), ("a.check",), (PlaceLink(f"{folder}/link", f"{folder}/target"),))
    write_file(str(tmp_path / "plan.sh"), script(prepare([plan], Disk(), "RUN"), (), "en"), errors="surrogateescape")
    assert b"/caf\xe9/link" in (tmp_path / "plan.sh").read_bytes()
    done = subprocess.run(["sh", str(tmp_path / "plan.sh")], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert os.readlink(f"{folder}/link") == "target"
