"""What a local cluster leaves behind when its program is killed, and who clears it away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glmcore.cluster.folder import TOKEN, own_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of processes as Linux has them")
HOLDER = "import sys; from glmcore.cluster.folder import own_folder as own\n" \
    "with own() as token: print(token, flush=True); sys.stdin.read()"

# What Ray leaves: a process of its name that writes below the folder, and does not end with its program.
WRITER = "import ctypes, sys; ctypes.CDLL(None).prctl(15, sys.argv[1].encode()); file = open(sys.argv[2], 'w')\n" \
    "print(flush=True); sys.stdin.read()"


def test_a_folder_whose_program_was_killed_goes_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "glm-somebody").mkdir()  # not ours: there is no token in it
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER], env={"TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    tokens = [Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout]
    assert all(token.name == TOKEN and len(token.read_text()) == 64 for token in tokens)
    left, other = (
        subprocess.Popen([sys.executable, "-c", WRITER, name, f"{tokens[0].parent}/log"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        for name in ("ray::Agent", "tail")
    )  # fmt: skip
    assert left.stdout and other.stdout and left.stdout.readline() == other.stdout.readline()  # both have begun
    holders[0].kill()
    holders[0].wait()
    with own_folder() as token:
        assert token.stat().st_mode & 0o777 == 0o600
        assert not tokens[0].parent.exists() and tokens[1].exists()
        assert left.wait(10) == -9
    for process in (*holders, left, other):
        process.communicate()
    assert other.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["glm-somebody"]
