"""Plans are carried out whole or not at all, one doctor at a time, and never over other people's changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from glmdoctor.actions import PlaceLink
from glmdoctor.actions.disk import Disk
from glmdoctor.messages import text
from glmdoctor.remedies import Plan
from glmdoctor.repair import executor, recovery
from glmdoctor.repair.executor import Outcome, Prepared, Result, Treatment, prepare
from glmdoctor.repair.journal import Store
from glmdoctor.repair.recovery import Refused

Snapshot = Callable[[str], dict[str, str]]
STATE = "/state"


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "lib").mkdir()
    for version in ("470", "535"):
        (tmp_path / "lib" / f"libcuda.so.{version}").write_text(version)
    (tmp_path / "lib" / "libcuda.so.1").symlink_to("libcuda.so.470")
    (tmp_path / "lib" / "libcuda.so").write_text("somebody's own")
    return Disk(str(tmp_path))


PLAN = Plan(
    "mend",
    text("Mend"),
    ("cuda.libcuda-chain",),
    (
        PlaceLink("/lib/libcuda.so.1", "/lib/libcuda.so.535"),
        PlaceLink("/lib/libcuda.so", "/lib/libcuda.so.1"),
        PlaceLink("/home/cuda/lib64/libcuda.so", "/lib/libcuda.so.1"),
    ),
)


def carry_out(
    disk: Disk,
    prepared: Prepared,
    *,
    run: str = "R1",
    confirm: Callable[[Prepared], bool] = lambda plan: True,
    holds: Callable[[Plan], bool] = lambda plan: True,
) -> Result:
    with executor.locked(disk, STATE) as store, Treatment(store, run) as treatment:
        return treatment.carry_out(prepared, confirm, holds)


def machine(disk: Disk, snapshot: Snapshot) -> dict[str, str]:
    return {path: what for path, what in snapshot(disk.root).items() if not path.startswith(STATE)}


def records(disk: Disk, run: str = "R1") -> list[dict[str, object]]:
    raw = Path(disk.root + f"{STATE}/runs/{run}.jsonl").read_text()
    return [json.loads(line) for line in raw.splitlines() if line]


def test_done_and_undone_is_as_before(disk: Disk, snapshot: Snapshot) -> None:
    before = machine(disk, snapshot)
    [prepared] = prepare([PLAN], disk, "R1-1")
    assert carry_out(disk, prepared).outcome is Outcome.REPAIRED
    assert os.readlink(disk.root + "/lib/libcuda.so.1") == "libcuda.so.535"  # a neighbour by its bare name
    assert os.readlink(disk.root + "/home/cuda/lib64/libcuda.so") == "/lib/libcuda.so.1"
    with executor.locked(disk, STATE) as store:
        undone = recovery.undo(store)
    assert undone is not None and undone.stay == ()
    assert machine(disk, snapshot) == before


def test_only_the_announced_paths_are_touched(disk: Disk, snapshot: Snapshot) -> None:
    before = machine(disk, snapshot)
    [prepared] = prepare([PLAN], disk, "R1-1")
    carry_out(disk, prepared)
    after = machine(disk, snapshot)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed == set(prepared.paths)


def test_what_is_in_place_already_falls_away(disk: Disk) -> None:
    carry_out(disk, prepare([PLAN], disk, "R1-1")[0])
    [again] = prepare([PLAN], disk, "R2-1")
    assert again.steps == ()
    assert carry_out(disk, again, run="R2", confirm=lambda plan: False).outcome is Outcome.REPAIRED
    assert Store(disk, STATE).ids() == ["R1"]  # nothing was done, so there is nothing to undo


def test_a_declined_plan_leaves_no_trace(disk: Disk, snapshot: Snapshot) -> None:
    before = machine(disk, snapshot)
    result = carry_out(disk, prepare([PLAN], disk, "R1-1")[0], confirm=lambda plan: False)
    assert result.outcome is Outcome.DECLINED
    assert machine(disk, snapshot) == before and Store(disk, STATE).ids() == []


def test_a_check_that_still_complains_is_no_repair(disk: Disk) -> None:
    result = carry_out(disk, prepare([PLAN], disk, "R1-1")[0], holds=lambda plan: False)
    assert result.outcome is Outcome.NOT_REPAIRED


def test_a_state_that_the_plan_did_not_see_takes_it_back(disk: Disk, snapshot: Snapshot) -> None:
    [prepared] = prepare([PLAN], disk, "R1-1")
    Path(disk.root + "/lib/libcuda.so").write_text("written in the meantime")
    before = machine(disk, snapshot)
    result = carry_out(disk, prepared)
    assert result.outcome is Outcome.FAILED and "libcuda.so has changed" in str(result.reason)
    assert machine(disk, snapshot) == before
    assert records(disk)[-1]["record"] == "closed"


@pytest.mark.parametrize("call", ["symlink", "rename", "mkdir", "keep", "sync"])
def test_a_failure_takes_the_whole_plan_back(disk: Disk, snapshot: Snapshot, call: str) -> None:
    before = machine(disk, snapshot)

    class Full(Disk):
        def step(self, change: str, path: str) -> None:
            if change == call and "/home" in path + "/home" * (call == "keep"):
                self.step = lambda change, path: None  # type: ignore[method-assign]
                raise OSError(28, "No space left on device", path)

    full = Full(disk.root)
    result = carry_out(full, prepare([PLAN], full, "R1-1")[0])
    assert result.outcome is Outcome.FAILED and "No space left" in str(result.reason)
    assert machine(disk, snapshot) == before


def test_the_intent_is_on_the_disk_before_the_act(disk: Disk) -> None:
    """Every change of the machine finds its intent in the journal, with the way back."""

    class Witness(Disk):
        def step(self, change: str, path: str) -> None:
            if change in ("mkdir", "symlink", "rename", "keep") and not path.startswith(STATE):
                intents = [r["changes"] for r in records(self) if r["record"] == "intent"]
                last = intents[-1]
                assert isinstance(last, dict)
                names = {name for p, c in last.items() for name in (p, c["temporary"], c["kept"])}
                assert path in names, (change, path)

    witness = Witness(disk.root)
    assert carry_out(witness, prepare([PLAN], witness, "R1-1")[0]).outcome is Outcome.REPAIRED


def test_the_journal_is_synced_before_the_act(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync " + os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append("rename " + b), rename(a, b)))
    carry_out(disk, prepare([PLAN], disk, "R1-1")[0])
    first = next(i for i, call in enumerate(calls) if call.startswith("rename"))
    assert any(call.endswith("R1.jsonl") for call in calls[:first])
    assert any(call.endswith("/runs") for call in calls[:first])  # the journal's own name is on the disk too
    assert calls[first + 1].startswith("sync") and calls[first + 1].endswith("/lib")


def test_two_at_once_are_kept_apart(disk: Disk) -> None:
    with executor.locked(disk, STATE), pytest.raises(Refused, match="another glmdoctor"), executor.locked(disk, STATE):
        pass


def test_undo_refuses_where_others_changed_something(disk: Disk, snapshot: Snapshot) -> None:
    carry_out(disk, prepare([PLAN], disk, "R1-1")[0])
    os.unlink(disk.root + "/lib/libcuda.so.1")
    os.symlink("libcuda.so.470", disk.root + "/lib/libcuda.so.1.other")
    os.symlink("libcuda.so.1.other", disk.root + "/lib/libcuda.so.1")
    before = machine(disk, snapshot)
    with (
        executor.locked(disk, STATE) as store,
        pytest.raises(Refused, match=r"libcuda.so.1 has been changed by others"),
    ):
        recovery.undo(store)
    assert machine(disk, snapshot) == before


def test_undo_refuses_where_the_kept_file_is_gone(disk: Disk) -> None:
    [prepared] = prepare([PLAN], disk, "R1-1")
    carry_out(disk, prepared)
    [kept] = [path for path in prepared.paths if path.endswith(".kept")]
    os.unlink(disk.root + kept)
    with executor.locked(disk, STATE) as store, pytest.raises(Refused):
        recovery.undo(store)


def test_a_folder_that_others_use_by_now_stays(disk: Disk) -> None:
    carry_out(disk, prepare([PLAN], disk, "R1-1")[0])
    Path(disk.root + "/home/cuda/lib64/mine").write_text("not the doctor's")
    with executor.locked(disk, STATE) as store:
        undone = recovery.undo(store)
    assert undone is not None and set(undone.stay) == {"/home", "/home/cuda", "/home/cuda/lib64"}
    assert Path(disk.root + "/home/cuda/lib64/mine").exists()
    assert not os.path.lexists(disk.root + "/home/cuda/lib64/libcuda.so")


def test_runs_are_undone_by_name_and_latest_first(disk: Disk) -> None:
    first = Plan("a", text("a"), (), PLAN.actions[:1])
    second = Plan("b", text("b"), (), PLAN.actions[2:])
    carry_out(disk, prepare([first], disk, "R1-1")[0], run="R1")
    carry_out(disk, prepare([second], disk, "R2-1")[0], run="R2")
    with executor.locked(disk, STATE) as store:
        latest, named, nothing = recovery.undo(store), recovery.undo(store, "R1"), recovery.undo(store)
    assert latest and named and (latest.run, named.run, nothing) == ("R2", "R1", None)
    assert os.readlink(disk.root + "/lib/libcuda.so.1") == "libcuda.so.470"


def test_a_killed_run_whose_path_others_took_over_leaves_theirs_alone(disk: Disk) -> None:
    carry_out(disk, prepare([PLAN], disk, "R1-1")[0])
    journal = Path(disk.root + f"{STATE}/runs/R1.jsonl")
    lines = [line for line in journal.read_text().splitlines() if '"finished"' not in line]
    journal.write_text("\n".join(lines) + '\n{"record": "fini')  # killed while it wrote the last line
    journal.with_suffix(".last").write_text(json.loads(lines[-2])["sum"])
    os.unlink(disk.root + "/lib/libcuda.so")
    Path(disk.root + "/lib/libcuda.so").write_text("a package's new file")
    with executor.locked(disk, STATE) as store:
        [undone] = recovery.recover(store)
        assert recovery.recover(store) == []
    assert set(undone.lost) == {"/lib/libcuda.so"}
    assert Path(disk.root + "/lib/libcuda.so").read_text() == "a package's new file"
    assert os.readlink(disk.root + "/lib/libcuda.so.1") == "libcuda.so.470"
    assert any(name.endswith(".kept") for name in os.listdir(disk.root + "/lib"))  # the former file is not lost


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_takes_nothing_back_that_another_user_wrote_down(disk: Disk) -> None:
    """HOME may be somebody else's under sudo, and a journal says what to put where."""
    carry_out(disk, prepare([PLAN], disk, "R1-1")[0])
    os.chown(disk.root + f"{STATE}/runs/R1.jsonl", 12345, 12345)
    with executor.locked(disk, STATE) as store:
        assert store.runs() == [] and recovery.undo(store) is None
        assert [str(each.why) for each in store.damaged()] == ["others could have changed it"]
    assert os.readlink(disk.root + "/lib/libcuda.so.1") == "libcuda.so.535"
