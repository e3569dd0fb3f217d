"""Packages at the versions that findings ask for: pip's own plan, installed exactly, and the former ones again.

The index is a folder of tiny wheels, the interpreter a virtual environment of the test; no network is used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from environments import make_environment

from glmdoctor.actions import packages
from glmdoctor.actions.disk import Disk
from glmdoctor.findings import Finding, Requirements, Status
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.messages import text
from glmdoctor.readings.needs import needs
from glmdoctor.readings.ranges import solve
from glmdoctor.remedies import Plan, pins
from glmdoctor.repair import executor, inputs, recovery
from glmdoctor.repair.executor import Outcome, Treatment, prepare
from glmdoctor.repair.recovery import Refused


def wheel(folder: Path, name: str, version: str, *requires: str, files: int = 0) -> None:
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"version = {version!r}\n")
        for number in range(files):
            file.writestr(f"{name}_data/{version}/{number}.txt", "data")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An interpreter with numpy 2.0 and an old transformers, and an index with what it would need."""
    index, folder = tmp_path_factory.mktemp("index"), tmp_path_factory.mktemp("environment")
    wheel(index, "numpy", "1.26.4")
    wheel(index, "numpy", "2.0.0")
    wheel(index, "transformers", "4.30.0")
    wheel(index, "transformers", "4.40.0", "tokenizers>=0.19")
    wheel(index, "tokenizers", "0.19.1")
    make_environment(folder)
    python = str(folder / "bin" / "python")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_NO_CACHE_DIR": "1"}.items():
            patch.setenv(name, value)
        pip(python, "install", "numpy==2.0.0", "transformers==4.30.0")
        yield python


def pip(python: str, *arguments: str) -> None:
    no_deps = ["--no-deps"] if arguments[0] == "install" else ["-y"]
    subprocess.run([python, "-m", "pip", arguments[0], "-q", *no_deps, *arguments[1:]], check=True, capture_output=True)


@pytest.fixture(scope="module")
def as_installed(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what lies in its site-packages beside pip."""
    copy = tmp_path_factory.mktemp("installed")
    shutil.copytree(site_of(python), copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("pip*"))
    return copy


@pytest.fixture
def old(python: str, as_installed: Path) -> str:
    """The interpreter as it was, whatever a test before has done."""
    site = site_of(python)
    for path in (path for path in site.iterdir() if not path.name.startswith("pip")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(as_installed, site, dirs_exist_ok=True)
    return python


def site_of(python: str) -> Path:
    [site] = Path(python).parents[1].glob("lib/python3*/site-packages")
    return site


def plan(python: str, *arguments: str) -> Plan:
    io = RealIO()
    found = pins.plan(
        python, arguments, inputs.solved(io, python, arguments), inputs.packages(io, python), ("a.check",)
    )
    assert found
    return found


def treat(store: object, run: str, plan: Plan) -> executor.Result:
    with Treatment(store, run) as treatment:  # type: ignore[arg-type]
        [prepared] = prepare([plan], treatment.disk, run)
        return treatment.carry_out(prepared, lambda _: True, lambda _: True)


def now(python: str) -> dict[str, str]:
    found = packages.installed(python, Disk())
    return {name: version for name, version in found.items() if name not in ("pip", "setuptools")}


BEFORE = {"numpy": "2.0.0", "transformers": "4.30.0"}
AFTER = {"numpy": "1.26.4", "transformers": "4.40.0", "tokenizers": "0.19.1"}


def test_what_is_planned_is_installed_and_given_back(old: str, tmp_path: Path) -> None:
    found = plan(old, "numpy<2", "transformers>=4.33")
    [action] = found.actions
    assert isinstance(action, packages.InstallPackages) and found.own_question
    assert set(action.pins) == {"numpy==1.26.4", "transformers==4.40.0", "tokenizers==0.19.1"}
    assert set(action.former) == {"numpy==2.0.0", "transformers==4.30.0"}
    assert "pip install --no-deps numpy==2.0.0" in str(action.describe({}))
    with executor.locked(Disk(), str(tmp_path)) as store:
        assert treat(store, "R1", found).outcome is Outcome.REPAIRED
        assert now(old) == AFTER
        [line] = [line for line in (tmp_path / "runs/R1.jsonl").read_text().splitlines() if '"intent"' in line]
        assert "numpy==2.0.0" in line, "the journal holds the former versions"
        undone = recovery.undo(store)
    assert undone and not undone.stay and "numpy==2.0.0" in undone.restored[0]
    assert now(old) == BEFORE


MANY = 1500  # files in each new wheel, so that pip can be met while it copies them


def killed_in_the_midst(python: str, index: Path, doctor: Any, command: list[str], alone: bool) -> Any:
    """`fix --packages` with its pip ended by SIGKILL (``alone``), or both, when a new package is copied by half."""
    process = subprocess.Popen(command, env=doctor, start_new_session=True, stdin=subprocess.DEVNULL)
    site = site_of(python)
    end = time.monotonic() + 120
    while not any(100 < len(os.listdir(folder)) < MANY - 500 for folder in site.glob("*_data/*")):
        assert time.monotonic() < end and process.poll() is None, "pip was never met while it copies"
        time.sleep(0.002)
    if alone:
        installing = [p for p in psutil.Process(process.pid).children(recursive=True) if "--no-deps" in p.cmdline()]
        for child in installing:
            child.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=240)
    return process.returncode


@pytest.mark.parametrize("alone", [True, False], ids=["pip", "doctor-and-pip"])
def test_a_pip_that_is_killed_half_way_is_taken_back(old: str, root: Any, tmp_path: Path, alone: bool) -> None:
    """By the doctor itself where pip alone dies, else by the next command: no file of the new packages is left."""
    index, model = tmp_path / "index", tmp_path / "model"
    for folder in (index, model):
        folder.mkdir()
    (model / "config.json").write_text('{"model_type": "chatglm", "architectures": ["ChatGLMModel"]}')
    solution = solve(needs(Host(RealIO(), interpreter=old, model=str(model))))
    assert solution
    for name, version in (re.split("==|>=", requirement) for requirement in solution.install):
        wheel(index, name, version, files=MANY)
    for name, version in BEFORE.items():
        wheel(index, name, version)  # for the way back
    before = files_of(old)
    real = {"GLMDOCTOR_ROOT": "/", "HOME": str(tmp_path / "home"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    options = ["--packages", "--only", "python.packages", "--python", old, "--model", str(model), "--yes"]
    doctor = {**os.environ, **real, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "glmdoctor", "fix", *options]
    status = killed_in_the_midst(old, index, doctor, command, alone)
    if alone:
        assert status == 1
    else:
        assert files_of(old) != before
        recovered = root.glmdoctor("undo", **real)
        assert "rolled back" in recovered.stderr, recovered.stdout + recovered.stderr
    assert now(old) == BEFORE
    assert files_of(old) == before


def files_of(python: str) -> set[str]:
    """What lies in site-packages, but for compiled files."""
    site = site_of(python)
    return {
        str(path.relative_to(site))
        for path in site.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not str(path.relative_to(site)).startswith("pip")
    }


def test_what_others_installed_since_stays(old: str, tmp_path: Path) -> None:
    with executor.locked(Disk(), str(tmp_path)) as store:
        treat(store, "R1", plan(old, "numpy<2", "transformers>=4.33"))
        pip(old, "install", "transformers==4.30.0", "numpy==2.0.0")
        pip(old, "uninstall", "tokenizers")
        assert recovery.undo(store)
    assert now(old) == BEFORE


def test_a_plan_that_is_out_of_date_is_refused(old: str, tmp_path: Path) -> None:
    found = plan(old, "numpy<2")
    pip(old, "uninstall", "numpy")
    with executor.locked(Disk(), str(tmp_path)) as store:
        result = treat(store, "R1", found)
    assert result.outcome is Outcome.FAILED and "numpy has changed" in str(result.reason)


def test_what_pip_cannot_solve_is_one_line(old: str) -> None:
    with pytest.raises(Refused) as refused:
        inputs.solved(RealIO(), old, ("numpy>=9",))
    assert "numpy" in str(refused.value.reason) and "\n" not in str(refused.value.reason)


def test_findings_give_their_arguments(python: str) -> None:
    def finding(name: str, problem: str, *asked: str) -> Finding:
        payload = Requirements(asked) if asked else None
        return Finding(name, Status.FAIL, text("t"), text("d"), problem, payload=payload)

    host = Host(RealIO(), interpreter=python)
    clash, whole = finding("python.clashes", "numpy2-abi"), finding("python.together", "python-deps-missing")
    icetk = finding("python.clashes", "protobuf-too-new")  # one check may find several
    assert pins.wanted([clash, icetk, whole], host) == {"python.clashes": ("numpy<2", "protobuf<3.21")}
    solved = finding("python.together", "python-deps-missing", *("torch==2.6.0", "--index-url", "https://i/cu118"))
    assert list(pins.wanted([clash, solved], host)) == ["python.together"]
    assert pins.options(("torch==2.6.0", "--index-url", "https://i/cu118")) == ("--index-url", "https://i/cu118")


def test_fix_installs_what_a_finding_asks_for_only_when_told(old: str, root: Any, tmp_path: Path) -> None:
    """The whole command: no package is touched without --packages, and undo takes all of them away again."""
    index, model = tmp_path / "index", tmp_path / "model"
    for folder in (index, model):
        folder.mkdir()
    (model / "config.json").write_text('{"model_type": "chatglm", "architectures": ["ChatGLMModel"]}')
    solution = solve(needs(Host(RealIO(), interpreter=old, model=str(model))))
    assert solution
    asked = dict(re.split("==|>=", requirement) for requirement in solution.install)
    for name, version in asked.items():
        wheel(index, name, version)
    wheel(index, "transformers", "4.30.0")  # for the way back
    real = {"GLMDOCTOR_ROOT": "/", "HOME": str(tmp_path / "home"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    options = ("--only", "python.packages", "--python", old, "--model", str(model), "--yes", "--json")
    root.glmdoctor("fix", *options, **real)
    assert now(old) == BEFORE
    done = root.glmdoctor("fix", "--packages", *options, **real)
    assert done.returncode == 0, done.stderr
    [plan] = json.loads(done.stdout)["plans"]
    assert (plan["id"], plan["outcome"]) == ("install-packages", "repaired"), done.stdout + done.stderr
    assert now(old).items() >= asked.items() and "torch" in asked
    undone = root.glmdoctor("undo", **real)
    assert undone.returncode == 0, undone.stderr
    assert now(old) == BEFORE
