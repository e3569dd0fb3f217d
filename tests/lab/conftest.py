"""The lab mounts: as root, or in a plain user's own namespaces; where neither is there its tests are skipped."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from machine import Machine, make_patient
from possible import NOBODY, ROOT, tried_as_user, why_not


@pytest.fixture(scope="session")
def rooms() -> Iterator[Iterator[Path]]:
    """Folders that plain users reach too: pytest closes its own to everybody but who runs it."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    lab = Path(tempfile.mkdtemp(prefix="glmdoctor-lab-"))
    lab.chmod(0o755)
    yield (lab / str(number) for number in count())
    shutil.rmtree(lab)


@pytest.fixture(scope="session")
def stubs(rooms: Iterator[Path]) -> Path:
    folder = next(rooms)
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def linker_cache(rooms: Iterator[Path], stubs: Path) -> bytes:
    """The linker cache of a machine without toolkits, as its own ldconfig writes it."""
    bare = Machine(next(rooms), stubs, rootless=None if ROOT else os.geteuid())
    bare.remove_toolkits()
    bare.refresh_linker_cache()
    return (bare.folder / "etc" / "ld.so.cache").read_bytes()


@pytest.fixture(scope="session")
def patient(rooms: Iterator[Path], stubs: Path) -> str:
    return make_patient(next(rooms) / "venv", stubs)


@pytest.fixture
def machine(rooms: Iterator[Path], stubs: Path, linker_cache: bytes, patient: str) -> Iterator[Machine]:
    """A machine without card, driver and toolkit, but with a compiler; tests add what it has and what is broken."""
    made = Machine(next(rooms), stubs, patient, rootless=None if ROOT else os.geteuid())
    made.remove_toolkits()
    made.write("/etc/ld.so.cache", linker_cache)
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture
def plain_user(machine: Machine) -> int:
    """A user id without rights, for which the machine is open as far as a user needs it."""
    if not ROOT:
        pytest.skip("only root can become another user")
    machine.open_home()
    tried = machine.glmdoctor("--version", user=NOBODY)
    if tried.returncode:
        pytest.skip(f"the program lies where a plain user cannot run it: {tried.stderr.strip()}")
    return NOBODY


@pytest.fixture
def rootless(machine: Machine) -> Machine:
    """The machine as a plain user can make it, in namespaces of that user's own."""
    if tried_as_user().returncode:
        pytest.skip("plain users may not make user namespaces with overlays here")
    machine.rootless = NOBODY if ROOT else os.geteuid()
    return machine
