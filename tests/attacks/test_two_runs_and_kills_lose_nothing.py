"""Two runs into one folder, and a run that dies at any change to the disk: the checkpoint is whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glmcore.checkpoint import open_checkpoint
from glmcore.checkpoint.lock import LOCK, alone
from glmcore.errors import GlmError
from glmcore.place import quantize_checkpoint

SHARD = 400_000  # bytes; the demo model then has some shards

# Quantises one step further each time before it dies, as by SIGKILL, right before a change to the disk; then the run
# goes on. A process is forked for each death, so that torch is imported once.
STEPS = """
import os, sys, torch
from pathlib import Path
from glmcore.checkpoint import open_checkpoint
from glmcore.place import quantize_checkpoint

source, work, shard = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
CHANGES = ("os.rename", "os.remove", "os.mkdir", "open")

def quantise(folder):
    with open_checkpoint(source) as checkpoint:
        quantize_checkpoint(checkpoint, folder, "int4", shard_bytes=shard)

def dying_at(step, folder):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event not in CHANGES or not str(arguments[0]).startswith(str(folder)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        seen += 1
        if seen == step:
            os._exit(9)
    sys.addaudithook(hook)
    quantise(folder)
    os._exit(0)

step, status = 0, 9
while status == 9:
    step += 1
    folder = work / f"died-{step}"
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        dying_at(step, folder)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    whole = (folder / "config.json").exists()
    if not whole or (folder / ".unfinished.json").exists():
        quantise(folder)
assert status == 0, status
print(step)
"""


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != LOCK}


def quantise(source: Path, folder: Path, progress=None) -> None:
    with open_checkpoint(source) as checkpoint:
        quantize_checkpoint(checkpoint, folder, "int4", shard_bytes=SHARD, progress=progress)


@pytest.fixture
def straight(model: Path, tmp_path: Path) -> dict[str, str]:
    quantise(model, tmp_path / "straight")
    return content(tmp_path / "straight")


def test_a_second_run_into_the_same_folder_is_told_who_writes_there(
    model: Path, tmp_path: Path, straight: dict[str, str]
) -> None:
    refused: list[str] = []

    def second(done: int, total: int) -> None:
        with pytest.raises(GlmError) as caught:
            quantise(model, tmp_path / "out")
        refused.append(caught.value.what)

    quantise(model, tmp_path / "out", second)  # tried at every step of the first
    assert len(refused) > 8 and all(re.search(rf"process {os.getpid()} on", what) for what in refused[:-1])
    assert content(tmp_path / "out") == straight


def test_the_lock_holds_between_processes_and_ends_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from glmcore.checkpoint.lock import alone\n"
        "with alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    with pytest.raises(GlmError, match=f"process {child.pid} on"), alone(tmp_path):
        pass
    child.kill()
    child.wait()
    with alone(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_run_that_dies_before_any_change_to_the_disk_goes_on_to_the_same_files(
    model: Path, tmp_path: Path, straight: dict[str, str]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-c", STEPS, str(model), str(work), str(SHARD)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    for folder in work.iterdir():
        assert content(folder) == straight, folder.name


@pytest.mark.parametrize("name", [LOCK, ".unfinished.json", "model.safetensors"])
def test_a_link_that_lies_in_the_output_is_never_written_through(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "mine")
    with pytest.raises(GlmError):
        quantise(model, tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "mine"
