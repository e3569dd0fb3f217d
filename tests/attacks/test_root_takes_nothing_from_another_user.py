"""Root works in a home that belongs to somebody else, as `sudo -E` and some containers have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glmcore import programs
from glmcore.folders import believed, home_of_root, user_folder, who_else
from glmcore.kernels.build import KernelError, ensure_kernel
from glmcore.kernels.opening import opened
from glmcore.machine import remember_bandwidth, remembered_bandwidth
from glmdoctor.actions.disk import Disk
from glmdoctor.host.facts import Unknown
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.nvml import child
from glmdoctor.repair.journal import Store
from glmdoctor.repair.session import Choice, Repair

ROOT = Path(__file__).resolve().parents[2]
OTHER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can stand in another user's home as root")


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of another user, which HOME and XDG's variables name."""
    home = tmp_path / "home"
    for name in ("", ".cache", ".local", ".local/state", ".local/share"):
        (home / name).mkdir()
        os.chown(home / name, OTHER, OTHER)
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (("CACHE", ".cache"), ("STATE", ".local/state"), ("DATA", ".local/share")):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / folder))
    return home


@needs_root
@pytest.mark.parametrize("kind", ["cache", "data", "state"])
def test_folders_come_from_the_password_database(foreign: Path, kind: str) -> None:
    found = user_folder(kind, "glmdoctor")  # type: ignore[arg-type]
    assert found is None or found.startswith(os.path.realpath(home_of_root()) + "/")


@needs_root
def test_children_get_the_home_of_root(foreign: Path) -> None:
    """Else pip would install from the index that another user's pip.conf names."""
    done = programs.run(["sh", "-c", 'echo "$HOME:$XDG_CACHE_HOME"'], 20)
    assert done.out.strip() == f"{home_of_root()}:"


@needs_root
def test_a_folder_that_another_user_could_replace_is_nobodys_to_trust(tmp_path: Path) -> None:
    own = tmp_path / "theirs" / "roots"
    own.mkdir(parents=True)
    assert who_else(str(own)) is None
    os.chown(own.parent, OTHER, OTHER)
    assert "belongs to user 65534" in str(who_else(str(own)))
    os.chown(own.parent, 0, 0)
    own.parent.chmod(0o777)
    assert "changed by others" in str(who_else(str(own)))
    own.parent.chmod(0o755)
    (tmp_path / "link").symlink_to("theirs")
    assert "is a link" in str(who_else(str(tmp_path / "link" / "roots")))


@needs_root
def test_undo_does_not_run_what_was_renamed_into_the_journal(tmp_path: Path) -> None:
    """The file is root's own, laid there by the owner of a folder above."""
    state = tmp_path / "state"
    store = Store(Disk("/"), str(state))
    store.make()
    os.chown(state, OTHER, OTHER)
    with pytest.raises(PermissionError, match="belongs to user"):
        store.make()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_journal_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    store = Store(Disk("/"), str(tmp_path / "state"))
    store.make()
    (tmp_path / "state" / "runs").chmod(mode)
    with pytest.raises(PermissionError, match="others can write there"):
        store.make()


def test_the_journal_does_not_append_through_links(tmp_path: Path) -> None:
    store = Store(Disk("/"), str(tmp_path / "state"))
    store.make()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state" / "runs" / "a.jsonl").symlink_to(victim)
    with pytest.raises(OSError):
        store.disk.append(str(tmp_path / "state" / "runs" / "a.jsonl"), b"{}")
    assert victim.read_text() == "precious"
    assert store.runs() == [] and [each.path for each in store.damaged()] == [str(tmp_path / "state/runs/a.jsonl")]


def test_a_kernel_swapped_after_its_verification_is_not_loaded(tmp_path: Path) -> None:
    """The swap comes between the check and the loading, as the owner of the folder could have it."""
    try:
        library = ensure_kernel(isa="plain", cache=tmp_path / "cache")
    except KernelError as error:
        pytest.skip(f"no kernel here: {error}")
    code, target = library.path.read_bytes(), tmp_path / "other.so"
    target.write_bytes(code + b"\0")
    os.replace(target, library.path)
    with pytest.raises(KernelError, match="replaced since"):
        opened(library.path, library.sha256)
    library.path.write_bytes(code)
    assert opened(library.path, library.sha256).glm_abi() > 0


def test_a_kernel_that_was_loaded_is_a_copy_that_nobody_can_change(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("files without a name are Linux's")
    try:
        library = ensure_kernel(isa="plain", cache=tmp_path / "cache")
    except KernelError as error:
        pytest.skip(f"no kernel here: {error}")
    opened(library.path, library.sha256)
    assert str(library.path) not in Path("/proc/self/maps").read_text()


@needs_root
@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("owned", ["interpreter", "folder"])
def test_a_python_of_another_user_is_refused_unless_anyway(tmp_path: Path, owned: str, anyway: bool) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\ntouch {tmp_path}/run\nexit 3\n")
    python.chmod(0o755)
    os.chown(python if owned == "interpreter" else python.parent, OTHER, OTHER)
    arguments = ["check", "--only", "system.cpu", "--python", str(python), *(["--anyway"] if anyway else [])]
    done = subprocess.run(
        [sys.executable, "-m", "glmdoctor", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert (tmp_path / "run").exists() == anyway
    assert anyway or "belongs to user 65534" in done.stderr


def test_the_deep_check_runs_the_kernel_that_was_verified_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "other.so").write_bytes(b"\x7fELF")
    asked = {"library": str(tmp_path / "other.so"), "sha256": "0" * 64, "threads": 1}
    answer = child(RealIO(), "kernel_run.py", asked)
    assert isinstance(answer, Unknown) and "replaced since it was verified" in answer.reason


def test_what_is_remembered_is_not_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "glmcore").mkdir()
    (tmp_path / "glmcore" / f"memory.json.{os.getpid()}").symlink_to(tmp_path / "victim")
    remember_bandwidth(5e9)
    assert remembered_bandwidth() == 5e9
    assert (tmp_path / "victim").read_text() == "precious"


@needs_root
def test_a_kernel_file_of_another_user_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the self-test in a child, which would run it too; `sudo -E` keeps the variable."""
    file = tmp_path / "kernel.so"
    file.write_bytes(b"\x7fELF")
    os.chown(file, OTHER, OTHER)
    monkeypatch.setattr("glmcore.kernels.build._selftest", lambda *_: pytest.fail("it was run"))
    with pytest.raises(KernelError, match="belongs to user 65534"):
        ensure_kernel(file)


@needs_root
@pytest.mark.parametrize("name", ["HOME", "ZDOTDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"])
def test_each_folder_is_believed_by_itself(tmp_path: Path, name: str) -> None:
    """A HOME of root's does not make another user's XDG_CONFIG_HOME right, where pip's settings may lie."""
    mine, theirs, sticky = tmp_path / "mine", tmp_path / "theirs", tmp_path / "sticky"
    for folder in (mine, theirs, sticky):
        folder.mkdir()
    os.chown(theirs, OTHER, OTHER)
    sticky.chmod(0o1777)
    variables = {"HOME": str(mine), "ZDOTDIR": str(mine), "XDG_SESSION_ID": "3"}
    assert believed({**variables, name: str(mine)}) == {**variables, name: str(mine)}
    for folder in (theirs, theirs / "below", sticky / "not-there"):
        found = believed({**variables, name: str(folder)})
        assert found.pop(name, home_of_root()) == home_of_root()
        assert found == {key: value for key, value in variables.items() if key != name}
    assert believed({**variables, "HOME": str(sticky)})["HOME"] == str(sticky)


@needs_root
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_start_file_of_another_user_is_not_written(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(foreign / ".config"))
    monkeypatch.setenv("ZDOTDIR", str(foreign))
    monkeypatch.setattr(Repair, "variables", lambda _: {"CUDA_PATH": "/opt/cuda"})
    plan = Repair(Choice(start_file=True)).start_file(())
    assert plan is not None and plan.actions[0].paths[0].startswith(os.path.realpath(home_of_root()) + "/")
