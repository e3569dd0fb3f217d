"""`glmdoctor fix` and `undo` as a user runs them, on machines below a folder (the fake root takes the user's place)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from glmdoctor.repair import environment, journal


def not_in_cuda_path(root: Any) -> None:
    """The driver is whole; the toolkit's lib64 lacks libcuda.so."""
    root.driver(root.MODULE)
    root.toolkit()
    root.refresh_linker_cache()


def dangling(root: Any) -> None:
    not_in_cuda_path(root)
    root.link(f"{root.LIB}/libcuda.so.1", f"libcuda.so.{root.OTHER}")


def other_version(root: Any) -> None:
    """Both drivers' files are there, and the link leads to the one that does not run."""
    not_in_cuda_path(root)
    root.library(f"{root.LIB}/libcuda.so.{root.OTHER}", "libcuda.so.1")
    root.link(f"{root.LIB}/libcuda.so.1", f"libcuda.so.{root.OTHER}")


def regular_file(root: Any) -> None:
    """An interrupted copy lies where the link belongs."""
    not_in_cuda_path(root)
    root.place(f"{root.LIB}/libcuda.so.1").unlink()
    root.file(f"{root.LIB}/libcuda.so.1", "", mode=0o640)


def stub_linked(root: Any) -> None:
    not_in_cuda_path(root)
    root.library("/usr/local/cuda-12.2/lib64/stubs/libcuda.so", "libcuda.so.1", stub=True)
    root.link("/usr/local/cuda-12.2/lib64/libcuda.so", "stubs/libcuda.so")


def toolkit_dangles(root: Any) -> None:
    not_in_cuda_path(root)
    root.link("/usr/local/cuda", "cuda-11.7")


@pytest.mark.parametrize(
    "breaks", [not_in_cuda_path, dangling, other_version, regular_file, stub_linked, toolkit_dangles]
)
def test_a_broken_machine_is_repaired_and_given_back(root: Any, breaks: Callable[[Any], None]) -> None:
    breaks(root)
    before, everything = root.tree(), root.tree(journal=True)
    planned = json.loads(root.glmdoctor("fix", "--symlink", "--dry-run", "--json").stdout)
    assert root.tree(journal=True) == everything, "a dry run changed something"
    done = root.glmdoctor("fix", "--symlink", "--yes", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {plan["outcome"] for plan in report["plans"]} == {"repaired"}
    assert report["plans"][0]["actions"] == planned["plans"][0]["actions"] or "kept" in str(planned)
    after = root.tree()
    assert after != before
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed <= {path for plan in report["plans"] for path in plan["paths"]}
    for path in after:
        if path.endswith(("/libcuda.so", "/libcuda.so.1")) and "stubs" not in path:
            assert os.path.basename(inside(root, path)) == f"libcuda.so.{root.MODULE}", path
    assert root.glmdoctor("fix", "--symlink", "--yes").stdout.startswith("There is nothing")
    undone = root.glmdoctor("undo", report["run"])
    assert undone.returncode == 0, undone.stderr
    assert root.tree() == before


def inside(root: Any, path: str) -> str:
    from glmdoctor.host.io import RealIO

    return RealIO(str(root.path)).realpath(path)


def test_without_the_right_file_there_is_advice_and_no_change(root: Any) -> None:
    root.driver(root.OTHER, module=root.MODULE)
    root.toolkit()
    before = root.tree()
    done = root.glmdoctor("fix", "--symlink", "--yes")
    assert done.returncode == 1
    assert "nothing that glmdoctor can repair" in done.stdout and "reboot" in done.stdout
    assert root.tree() == before


def test_nothing_is_asked_where_nobody_can_answer(root: Any) -> None:
    not_in_cuda_path(root)
    before = root.tree()
    done = root.glmdoctor("fix", "--symlink")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--yes" in done.stderr
    assert "link /usr/local/cuda-12.2/lib64/libcuda.so" in done.stdout  # the plan comes first
    assert root.tree() == before


def test_an_unknown_check_is_wrong_usage(root: Any) -> None:
    done = root.glmdoctor("fix", "--only", "cuda.libcuda-lnk")
    assert done.returncode == 2 and "cuda.libcuda-link" in done.stderr and "Traceback" not in done.stderr


def test_only_one_check_is_treated(root: Any) -> None:
    dangling(root)
    done = root.glmdoctor("fix", "--only", "libcuda-link-broken", "--dry-run", "--json")
    assert [plan["findings"] for plan in json.loads(done.stdout)["plans"]] == [["cuda.libcuda-chain"]]


def test_a_healthy_machine_has_nothing_to_repair(root: Any) -> None:
    not_in_cuda_path(root)
    root.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{root.LIB}/libcuda.so.1")
    done = root.glmdoctor("fix", "--symlink", "--yes")
    assert (done.returncode, done.stdout) == (0, "There is nothing that glmdoctor can repair here.\n"), done.stderr


def test_a_private_cuda_path_where_the_toolkit_lacks_libraries(root: Any) -> None:
    """The toolkit has cudart alone; another place has all of one release: nothing is mixed."""
    root.driver(root.MODULE)
    root.toolkit(names=("cudart",))
    for name in ("cudart", "nvrtc", "cublasLt"):
        root.library(f"/opt/cuda/lib64/lib{name}.so.12", f"lib{name}.so.12")
    root.file("/opt/cuda/version.json", '{"cuda": {"version": "12.4.0"}}')
    root.refresh_linker_cache()
    before = root.tree()
    done = root.glmdoctor("fix", "--symlink", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    lib64 = root.path / root.DATA.lstrip("/") / "cuda" / "lib64"
    leads = {link.name: os.readlink(link) for link in lib64.iterdir()}
    assert leads.pop("libcuda.so") == leads.pop("libcuda.so.1") == f"{root.LIB}/libcuda.so.1"
    assert {os.path.dirname(target) for target in leads.values()} == {"/opt/cuda/lib64"}
    assert f"export CUDA_PATH={root.DATA}/cuda" in done.stdout
    shown = root.glmdoctor("run", "--", "sh", "-c", "echo path=$CUDA_PATH")
    assert f"path={root.DATA}/cuda" in shown.stdout
    assert root.glmdoctor("undo").returncode == 0
    assert root.tree() == before
    assert "path=\n" in root.glmdoctor("run", "--", "sh", "-c", "echo path=$CUDA_PATH").stdout


def test_a_stray_folder_is_left_out_by_run(root: Any) -> None:
    not_in_cuda_path(root)
    root.driver(root.OTHER, module=root.MODULE, folder="/opt/old-driver")
    root.environ["LD_LIBRARY_PATH"] = "/opt/old-driver:/opt/mine"
    done = root.glmdoctor("fix", "--only", "driver-library-mismatch", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export LD_LIBRARY_PATH=/opt/mine" in done.stdout
    assert "path=/opt/mine\n" in root.glmdoctor("run", "--", "sh", "-c", "echo path=$LD_LIBRARY_PATH").stdout


def test_without_a_home_there_is_no_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a container's user that /etc/passwd does not know
    with pytest.raises(journal.NoHome):
        journal.state_folder()
    assert environment.private_folder() is None


def test_undo_without_a_repair_and_with_an_unknown_one(root: Any) -> None:
    assert root.glmdoctor("undo").returncode == 0
    unknown = root.glmdoctor("undo", "20200101T000000Z-0000")
    assert unknown.returncode == 2 and "no repair" in unknown.stderr


def test_a_locked_machine_is_left_alone(root: Any) -> None:
    import filelock

    not_in_cuda_path(root)
    lock = Path(str(root.path) + root.STATE) / "lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        done = root.glmdoctor("fix", "--symlink", "--yes")
    assert done.returncode == 1 and "another glmdoctor" in done.stderr and done.stderr.count("\n") == 1


def test_the_report_speaks_chinese(root: Any) -> None:
    not_in_cuda_path(root)
    done = root.glmdoctor("fix", "--symlink", "--yes", "--lang", "zh")
    assert done.returncode == 0 and "已修复" in done.stdout and "repaired" not in done.stdout


def test_the_kernel_gets_a_lasting_name(root: Any) -> None:
    """The running system's home is used: a kernel is built for this machine, not for a folder."""
    home = str(root.path / "home")
    real = {"GLMDOCTOR_ROOT": "/", "HOME": home}
    done = root.glmdoctor("fix", "--kernel", "--yes", "--json", **real)
    [plan] = json.loads(done.stdout)["plans"]
    assert (done.returncode, plan["outcome"]) == (0, "repaired"), done.stderr
    placed = plan["environment"]["GLMCORE_KERNEL_FILE"]
    assert placed.startswith(home) and Path(placed).resolve().is_file()
    again = json.loads(root.glmdoctor("fix", "--kernel", "--yes", "--json", **real).stdout)
    assert again["plans"][0]["actions"] == [] and again["run"] is None
    assert root.glmdoctor("undo", **real).returncode == 0
    assert not os.path.lexists(placed)


def test_a_kernel_that_cannot_be_built_is_no_repair(root: Any) -> None:
    real = {"GLMDOCTOR_ROOT": "/", "HOME": str(root.path / "home"), "XDG_CACHE_HOME": str(root.path / "cache")}
    done = root.glmdoctor("fix", "--kernel", "--yes", PATH="/nowhere", **real)
    assert done.returncode == 1 and "gcc" in done.stdout, done.stdout + done.stderr


def asked(root: Any) -> Any:
    """A fix on a terminal of its own, at its question."""
    variables = {"GLMDOCTOR_ROOT": str(root.path), "HOME": root.HOME, "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    command = ["-m", "glmdoctor", "fix", "--symlink"]
    child = pexpect.spawn(sys.executable, command, env=variables, encoding="utf-8", timeout=60)
    child.expect("do it")
    return child


@pytest.mark.parametrize(
    "answer, outcome, status", [("n", "left out", 0), ("y", "repaired", 0), ("a", "repaired", 0), ("q", "left out", 0)]
)
def test_each_plan_is_asked_for_on_a_terminal(root: Any, answer: str, outcome: str, status: int) -> None:
    not_in_cuda_path(root)
    before, child = root.tree(), asked(root)
    assert "libcuda.so" in child.before
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert outcome in child.before and child.exitstatus == status
    assert (root.tree() == before) == (answer in "nq")


def test_an_interrupt_at_the_question_changes_nothing(root: Any) -> None:
    not_in_cuda_path(root)
    before, child = root.tree(), asked(root)
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 and "Traceback" not in child.before
    assert root.tree() == before


def test_a_journal_that_cannot_be_written_stops_the_repair_in_one_line(root: Any) -> None:
    not_in_cuda_path(root)
    root.file(root.STATE, "a file where the journal's folder belongs")
    done = root.glmdoctor("fix", "--symlink", "--yes")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "Not a directory" in done.stderr and root.STATE in done.stderr
    assert not os.path.lexists(root.place("/usr/local/cuda-12.2/lib64/libcuda.so"))


def test_a_damaged_journal_is_put_aside_and_the_next_repair_goes_on(root: Any) -> None:
    not_in_cuda_path(root)
    journal = f"{root.STATE}/runs/20260101T000000Z-0000.jsonl"
    root.file(journal, '{"record": "intent", "step": 1}\n')
    done = root.glmdoctor("fix", "--symlink", "--yes", "--json")
    run = json.loads(done.stdout)["run"]
    assert done.returncode == 0 and f"kept as {journal}.damaged" in done.stderr
    named = root.glmdoctor("undo", "20260101T000000Z-0000")
    assert named.returncode == 1 and f"put aside as {journal}.damaged" in named.stderr
    assert root.place(f"{journal}.damaged").read_text() == '{"record": "intent", "step": 1}\n'
    undone = root.glmdoctor("undo")
    assert (undone.returncode, undone.stderr) == (0, "") and run in undone.stdout


def test_undo_stops_where_it_had_to_put_a_journal_aside(root: Any) -> None:
    """Without RUN the latest is meant, and that may be the damaged one."""
    not_in_cuda_path(root)
    assert root.glmdoctor("fix", "--symlink", "--yes").returncode == 0
    before = root.tree()
    [journal] = (root.path / root.STATE.lstrip("/") / "runs").glob("*.jsonl")
    journal.write_bytes(journal.read_bytes().replace(b'"kept"', b'"kepz"', 1))
    stopped = root.glmdoctor("undo")
    assert stopped.returncode == 1 and "put" not in stopped.stdout and "damaged" in stopped.stderr
    assert root.tree() == before
    assert root.glmdoctor("undo").returncode == 0
