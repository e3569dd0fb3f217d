"""A repair is killed before every single change it makes; whatever then runs next finds the way back.

Real processes die by ``_exit`` at the n-th change (a write may be cut in half); each path is then as before or as
after, and a fix or an undo that comes next, itself killed anywhere, ends with the tree of the beginning.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glmdoctor.actions import Action, PlaceLink, RefreshLinkerCache, WriteFile, digest
from glmdoctor.actions.disk import Disk
from glmdoctor.messages import text
from glmdoctor.remedies import Plan
from glmdoctor.repair import executor, recovery
from glmdoctor.repair.executor import Outcome, Treatment, prepare

Snapshot = Callable[[str], dict[str, str]]
STATE = "/state"
KILLED = 77
PLACED: tuple[Action, ...] = (
    PlaceLink("/lib/libcuda.so.1", "/lib/libcuda.so.535"),  # in place of a link
    PlaceLink("/lib/libcuda.so", "/lib/libcuda.so.1"),  # of a regular file
    PlaceLink("/data/cuda/lib64/libcuda.so", "/lib/libcuda.so.1"),  # of nothing, in folders that are not there
)
WRITTEN: tuple[Action, ...] = (
    WriteFile("/home/.bashrc", "old\nnew\n", digest("old\n")),  # in place of a file
    WriteFile("/hub/quantization.py", "patched", digest("a blob")),  # of a link, whose file stays
    WriteFile("/home/.config/fish/conf.d/glmdoctor.fish", "new\n", None),  # of nothing
)
EVERY = pytest.mark.parametrize(
    "actions", [PLACED, WRITTEN, (RefreshLinkerCache(),)], ids=["links", "files", "linker-cache"]
)


class Mortal(Disk):
    """Dies at the n-th change; the journal's line may be cut by it."""

    def __init__(self, root: str, last: int, tear: bool) -> None:
        super().__init__(root)
        self.left, self.tear = last, tear

    def step(self, change: str, path: str) -> None:
        self.left -= 1
        if self.left == 0 and not (self.tear and change == "append"):
            os._exit(KILLED)

    def append(self, path: str, data: bytes) -> None:
        if self.tear and self.left == 1:
            super().append(path, data[: len(data) // 2])
            os._exit(KILLED)
        super().append(path, data)


class NoLdconfig(Mortal):
    """Writes what ldconfig would, so that the test needs neither root nor a C library's tool."""

    def run(self, argv: list[str]) -> str:  # type: ignore[override]
        self.step("run", argv[0])
        Path(self.root + argv[3]).write_text("the new cache")
        notes = Path(self.root + "/var/cache/ldconfig/aux-cache")
        notes.with_name("aux-cache~").write_text("new notes")
        notes.with_name("aux-cache~").rename(notes)
        self.step("ran", argv[0])
        return ""


def machine(root: Path) -> None:
    for folder in ("lib", "etc", "var/cache/ldconfig", "home", "hub"):
        (root / folder).mkdir(parents=True)
    for version in ("470", "535"):
        (root / "lib" / f"libcuda.so.{version}").write_text(version)
    (root / "lib" / "libcuda.so.1").symlink_to("libcuda.so.470")
    (root / "lib" / "libcuda.so").write_text("somebody's own")
    (root / "home" / ".bashrc").write_text("old\n")
    (root / "home" / ".bashrc").chmod(0o600)
    (root / "hub" / "blob").write_text("a blob")
    (root / "hub" / "quantization.py").symlink_to("blob")
    (root / "etc" / "ld.so.cache").write_text("the old cache")
    (root / "var/cache/ldconfig/aux-cache").write_text("old notes")


def fix(disk: Disk, plan: Plan) -> None:
    with executor.locked(disk, STATE) as store, Treatment(store, "R1") as treatment:
        recovery.recover(store)
        [prepared] = prepare([plan], disk, "R1-1")
        result = treatment.carry_out(prepared, lambda plan: True, lambda plan: True)
        assert result.outcome is Outcome.REPAIRED, result.reason


def undo(disk: Disk, plan: Plan) -> None:
    with executor.locked(disk, STATE) as store:
        if not recovery.recover(store):
            recovery.undo(store)


def in_a_child(work: Callable[[Disk, Plan], None], disk: Disk, plan: Plan) -> int:
    """Exit status of a process of its own that does ``work``; it is gone afterwards, with its lock."""
    child = os.fork()
    if child == 0:
        try:
            work(disk, plan)
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def without_state(tree: dict[str, str]) -> dict[str, str]:
    return {path: what for path, what in tree.items() if not path.startswith(STATE)}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies loses nothing that it has written; only a machine would, and none dies here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("tear", [False, True])
@EVERY
def test_killed_anywhere(tmp_path: Path, snapshot: Snapshot, actions: tuple[Action, ...], tear: bool) -> None:
    plan = Plan("mend", text("Mend"), (), actions)
    deaths = 0
    while True:
        root = tmp_path / str(deaths)
        machine(root)
        before = without_state(snapshot(str(root)))
        status = in_a_child(fix, NoLdconfig(str(root), deaths + 1, tear), plan)
        assert status in (0, KILLED)
        _each_path_is_as_before_or_as_after(root, before, without_state(snapshot(str(root))))
        assert in_a_child(undo, Disk(str(root)), plan) == 0
        assert without_state(snapshot(str(root))) == before, f"killed before change {deaths + 1}"
        deaths += 1
        if status == 0:
            break
    assert deaths > (8 if len(actions) == 1 else 30)  # every change was met


def _each_path_is_as_before_or_as_after(root: Path, before: dict[str, str], now: dict[str, str]) -> None:
    after = {
        "/lib/libcuda.so.1": "libcuda.so.535",
        "/lib/libcuda.so": "libcuda.so.1",
        "/data/cuda/lib64/libcuda.so": "/lib/libcuda.so.1",
    }
    for path, target in after.items():
        place = root / path[1:]
        assert now.get(path) == before.get(path) or (place.is_symlink() and os.readlink(place) == target)
    assert (root / "home/.bashrc").read_text() in ("old\n", "old\nnew\n")
    assert (root / "hub/quantization.py").read_text() in ("a blob", "patched")
    assert (root / "hub/blob").read_text() == "a blob"
    assert (root / "etc/ld.so.cache").read_text() in ("the old cache", "the new cache")
    names = {path for path in now if path not in before and path not in after}
    assert all(
        os.path.basename(path).startswith(".glmdoctor-") or path.startswith(("/data", "/home/")) for path in names
    )


@EVERY
def test_the_way_back_may_be_killed_too(tmp_path: Path, snapshot: Snapshot, actions: tuple[Action, ...]) -> None:
    plan = Plan("mend", text("Mend"), (), actions)
    for deaths in range(200):
        root = tmp_path / str(deaths)
        machine(root)
        before = without_state(snapshot(str(root)))
        assert in_a_child(fix, NoLdconfig(str(root), 0, False), plan) == 0
        status = in_a_child(undo, Mortal(str(root), deaths + 1, True), plan)
        assert in_a_child(undo, Disk(str(root)), plan) == 0
        assert without_state(snapshot(str(root))) == before, f"undo killed before change {deaths + 1}"
        if status == 0:
            break
    else:
        pytest.fail("the undo never came to its end")


def test_the_next_fix_recovers_and_repairs(tmp_path: Path, snapshot: Snapshot) -> None:
    plan = Plan("mend", text("Mend"), (), PLACED)
    machine(tmp_path)
    before = without_state(snapshot(str(tmp_path)))
    assert in_a_child(fix, NoLdconfig(str(tmp_path), 25, False), plan) == KILLED

    def again(disk: Disk, plan: Plan) -> None:
        with executor.locked(disk, STATE) as store:
            assert [undone.run for undone in recovery.recover(store)] == ["R1"]
            assert without_state(snapshot(str(tmp_path))) == before
            with Treatment(store, "R2") as treatment:
                [prepared] = prepare([plan], disk, "R2-1")
                assert treatment.carry_out(prepared, lambda p: True, lambda p: True).outcome is Outcome.REPAIRED

    assert in_a_child(again, Disk(str(tmp_path)), plan) == 0
    assert os.readlink(tmp_path / "lib" / "libcuda.so.1") == "libcuda.so.535"
    assert in_a_child(undo, Disk(str(tmp_path)), plan) == 0
    assert without_state(snapshot(str(tmp_path))) == before
