"""The doctor in the hands of people who are not root, have no home folder, or name a Python that does not work."""

from __future__ import annotations

import os
from pathlib import Path

import cuda_machines as cuda
import driver_machines as driver
import pytest
from case import Case, failures, root_causes
from machine import Machine

CASES = {
    case.name: case
    for module in (driver, cuda)
    for case in module.CASES
    if case.name in ("upgraded_under_module", "nouveau", "no_uvm", "dangling_chain", "stub_by_cuda_path", "gpu_machine")
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_lab_needs_no_root(rootless: Machine, case: Case) -> None:
    """The same machines in namespaces that a plain user makes; there the doctor believes that it is root."""
    case.build(rootless)
    rootless.arguments += ["--skip", "kernel.build", "--skip", "compiler.openmp"]
    assert root_causes(rootless.check()) == case.root_causes


@pytest.mark.parametrize("known", [True, False], ids=["nobody", "unknown-user"])
def test_no_home_folder_is_no_crash(machine: Machine, plain_user: int, known: bool) -> None:
    """As `docker run --user 12345` starts programs: no HOME, and perhaps no line in /etc/passwd."""
    driver.gpu_machine(machine)
    machine.arguments += ["--skip", "kernel.build", "--skip", "compiler.openmp"]
    unset = ("env", "--unset=HOME", "--unset=XDG_CACHE_HOME")
    user = plain_user if known else 12345
    check = ["glmdoctor", "check", "--json", "--python", machine.python, *machine.arguments]
    done = machine.run(*unset, *check, user=user)
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"crashed": 0' in done.stdout and "probe crashed" not in done.stdout, done.stdout


def broken_pythons(folder: Path) -> dict[str, Path]:
    names = ("dangling", "folder", "silent", "liar", "text")
    made = {name: folder / name / "bin" / "python" for name in names}
    for path in made.values():
        path.parent.mkdir(parents=True)
    made["dangling"].symlink_to("/usr/local/python-that-was-removed/bin/python3")
    made["folder"].mkdir()
    for name, script in (("silent", "exit 3"), ("liar", "echo hello"), ("text", "")):
        made[name].write_text(f"#!/bin/sh\n{script}\n" if script else "not a program")
        made[name].chmod(0o755 if script else 0o644)
    return made


@pytest.mark.parametrize("name", ["dangling", "folder", "silent", "liar", "text"])
def test_a_python_that_does_not_work_is_one_clear_line(machine: Machine, name: str) -> None:
    """A virtual environment whose base was upgraded away is the usual one."""
    python = broken_pythons(machine.folder / "home")[name]
    done = machine.glmdoctor("check", "--python", str(python))
    assert done.returncode == 2, done.stdout + done.stderr
    assert str(python) in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4


def test_nothing_is_written_for_a_reader_who_may_not_write(machine: Machine, plain_user: int) -> None:
    driver.gpu_machine(machine)
    assert failures(machine.check(user=plain_user)) == []
    assert os.listdir(machine.folder / "home") == []
