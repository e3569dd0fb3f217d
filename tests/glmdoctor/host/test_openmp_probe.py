"""Two OpenMP runtimes in one process: real libraries, loaded by packages that stand in for numpy and torch."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from glmdoctor.checks import ALL
from glmdoctor.findings import Status
from glmdoctor.host.facts import Interpreter, OpenMp, Torch, Unknown
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.openmp import openmp

TORCH = Torch("2.13.0+cpu", None, None, "/venv/torch", ())
PYTHON = Interpreter(sys.executable, "3.11", "/venv", "linux_x86_64", {}, ())
LOADING = "import ctypes\nctypes.CDLL({path!r})\n"
ENDING = "import os, sys\nprint('OMP: Error #15: Initializing libomp.so', file=sys.stderr)\nos.abort()"


@pytest.fixture
def imported(tmp_path: Path, shared_object):
    def imported(numpy: str, torch: str) -> OpenMp | Unknown:
        for package, text in (("numpy", numpy), ("torch", torch)):
            name, code = f"{package}/{text}", text
            if text.startswith("lib"):
                place = tmp_path / name
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(shared_object(text).read_bytes())
                code = LOADING.format(path=str(place))
            (tmp_path / f"{package}.py").write_text(code)
        io = RealIO("/", environ={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"})
        return openmp(io, TORCH, PYTHON)

    return imported


def judged(found: OpenMp) -> Status:
    class Machine:
        openmp = found

    check = next(check for check in ALL if check.id == "deep.openmp")
    [finding] = check.run(Machine())  # type: ignore[arg-type]
    assert finding.problem == ("openmp-runtime-duplicated" if finding.bad else None)
    return finding.status


@pytest.mark.parametrize(
    ("numpy", "torch", "status"),
    [
        ("libiomp5.so", "libiomp5.so", Status.WARN),
        ("libiomp5.so", "libomp-a1b2.so", Status.WARN),
        ("libgomp.so.1", "libgomp-a34b.so.1", Status.OK),
        ("libgomp.so.1", "libiomp5.so", Status.OK),
        ("", "libompi.so", Status.OK),
        ("raise ImportError", "libomp.so", Status.OK),
    ],
)
def test_what_gets_on_with_each_other(imported, numpy: str, torch: str, status: Status) -> None:
    found = imported(numpy, torch)
    assert isinstance(found, OpenMp) and judged(found) is status, found


def test_a_runtime_that_ends_the_process(imported) -> None:
    found = imported("", ENDING)
    assert isinstance(found, OpenMp) and found.fault and judged(found) is Status.FAIL


def test_the_real_ones_here() -> None:
    pytest.importorskip("torch")
    found = openmp(RealIO(), TORCH, replace(PYTHON))
    assert isinstance(found, OpenMp) and found.fault is None and judged(found) is Status.OK


def test_nothing_to_import(imported) -> None:
    assert isinstance(imported("", "raise SystemExit(1)"), Unknown)
    assert isinstance(openmp(RealIO(), Unknown("none"), PYTHON), Unknown)
