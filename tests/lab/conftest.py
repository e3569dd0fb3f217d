"""The lab needs root and mount namespaces; where it has neither, its tests are skipped with the reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import Machine, make_patient


def why_not() -> str | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the lab mounts: it needs root on Linux"
    for program in ("unshare", "gcc", "mount", "setpriv"):
        if shutil.which(program) is None:
            return f"the lab needs {program}"
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no mount namespace here: {tried.stderr.strip()}" if tried.returncode else None


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("stubs")
    folder.chmod(0o755)  # it holds the caches of plain users too
    return folder


@pytest.fixture(scope="session")
def linker_cache(tmp_path_factory: pytest.TempPathFactory, stubs: Path) -> bytes:
    """The linker cache of a machine without toolkits, as its own ldconfig writes it."""
    bare = Machine(tmp_path_factory.mktemp("bare") / "machine", stubs)
    bare.remove_toolkits()
    bare.refresh_linker_cache()
    return (bare.folder / "etc" / "ld.so.cache").read_bytes()


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory, stubs: Path) -> str:
    folder = tmp_path_factory.mktemp("patient")
    folder.chmod(0o755)  # a plain user examines it too
    return make_patient(folder / "venv", stubs)


@pytest.fixture
def machine(tmp_path: Path, stubs: Path, linker_cache: bytes, patient: str) -> Machine:
    """A machine without card, driver and toolkit, but with a compiler; tests add what it has and what is broken."""
    made = Machine(tmp_path / "machine", stubs, patient)
    made.remove_toolkits()
    made.write("/etc/ld.so.cache", linker_cache)
    return made


@pytest.fixture
def plain_user(machine: Machine) -> int:
    """A user id without rights, for which the machine is open as far as a user needs it."""
    user = 65534
    machine.open_home()
    tried = machine.glmdoctor("--version", user=user)
    if tried.returncode:
        pytest.skip(f"the program lies where a plain user cannot run it: {tried.stderr.strip()}")
    return user
