"""docs/security.md lists all that `check` runs, and says that it writes to the two cache folders alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTED = re.compile(r'execve\("([^"]+)", .*(?:= 0|<unfinished \.\.\.>)$')
MADE = r"(?:openat\(AT_FDCWD, |open\(|creat\(|mkdir\()"
WRITTEN = re.compile(MADE + r'"([^"]+)", (?:[^"]*(?:O_WRONLY|O_RDWR|O_CREAT)|0\d)')


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an examination with an empty cache, and every program and file that it used."""
    if shutil.which("strace") is None:
        pytest.skip("strace follows what is run and written")
    folder = tmp_path_factory.mktemp("traced")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder), "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    follow = ["strace", "-f", "-qq", "-e", "trace=execve,open,openat,creat,mkdir", "-o", str(folder / "trace")]
    done = subprocess.run(
        [*follow, sys.executable, "-m", "glmdoctor", "check", "--python", sys.executable], env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip("nobody may trace here")
    return folder, (folder / "trace").read_text(errors="replace")


def test_every_program_is_listed(traced: tuple[Path, str]) -> None:
    listed = set(re.findall(r"`([\w-]+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")))
    started = {os.path.basename(match[1]) for line in traced[1].splitlines() if (match := STARTED.search(line))}
    versions = re.compile(r"^.*-linux-gnu-|-?[\d.]+$")  # x86_64-linux-gnu-gcc-12, python3.11
    unknown = {name for name in started if name not in listed and versions.sub("", name) not in listed}
    assert started and not unknown, sorted(unknown)


def test_nothing_is_written_but_the_two_caches(traced: tuple[Path, str]) -> None:
    folder, trace = traced
    written = {match[1] for line in trace.splitlines() if "ENOENT" not in line and (match := WRITTEN.search(line))}
    caches = tuple(f"{folder}/{name}" for name in ("glmcore", "glmdoctor"))
    strays = [path for path in written if not path.startswith((*caches, "/dev/null", "/proc/"))]
    assert strays == [] and any(path.startswith(caches) for path in written)
