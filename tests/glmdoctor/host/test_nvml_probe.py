"""NVML and cuDriverGetVersion through the real pynvml and ctypes, over stand-ins that gcc builds here."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from glmdoctor.host.facts import KernelDriver, Loader, Nvml, NvmlGpu, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes import linker
from glmdoctor.host.probes.nvml import ceiling, nvml

pytest.importorskip("pynvml")
STUB = (Path(__file__).parent / "nvml_stub.c").read_text()
LOADED = KernelDriver(True, "535.183.01", "/proc/driver/nvidia/version", False, False, (), (), ())
ABSENT = replace(LOADED, loaded=False, version=None, source=None)
LIBCUDA = "int cuDriverGetVersion(int *v) { *v = %d; return %d; }"


@pytest.fixture
def stub(tmp_path, shared_object) -> Path:
    path = tmp_path / "nvml" / "libnvidia-ml.so.1"
    path.parent.mkdir()
    shutil.copy(shared_object("libnvidia-ml.so.1", STUB), path)
    return path


def ask(stub: Path, driver: KernelDriver | Unknown = LOADED, **environ: str) -> Nvml | Unknown:
    machine = RealIO("/", environ={**os.environ, "LD_LIBRARY_PATH": str(stub.parent), **environ})
    return nvml(machine, driver, linker.loader(machine))


def test_cards(stub):
    answer = ask(stub)
    card = NvmlGpu(0, "Tesla P4", 8000, 7000, (6, 1), "GPU-1234")
    assert answer == Nvml(0, "Success", str(stub), "12.535.183.01", "535.183.01", (card, replace(card, index=1)))


@pytest.mark.parametrize("code", [4, 9, 12, 15, 999])
def test_codes(stub, code):
    answer = ask(stub, STUB_INIT=str(code))
    assert isinstance(answer, Nvml) and answer.code == code and answer.message
    assert (answer.library, answer.gpus, answer.asked) == (str(stub), (), True)


def test_a_card_that_is_lost(stub):
    answer = ask(stub, STUB_HANDLE="15")
    assert isinstance(answer, Nvml) and (answer.code, answer.driver_version) == (15, "535.183.01")


def test_a_capability_that_is_not_told(stub):
    answer = ask(stub, STUB_CAPABILITY="3", STUB_COUNT="1")
    assert isinstance(answer, Nvml) and answer.code == 0 and answer.gpus[0].compute_capability is None


def test_a_mismatch_is_asked_again_without_the_variable(tmp_path, stub):
    mismatch = ask(stub, STUB_INIT="18")
    assert isinstance(mismatch, Nvml)
    assert mismatch.code == 18
    assert mismatch.code_without_ld_library_path not in (None, 18)


def test_as_root_without_a_driver_nothing_is_called(stub):
    answer = ask(stub, ABSENT, STUB_INIT="15")
    assert isinstance(answer, Nvml)
    if os.geteuid() == 0:
        assert (answer.code, answer.asked) == (9, False)
    else:
        assert (answer.code, answer.asked) == (15, True)


def test_no_library_and_a_damaged_one(root):
    assert Host(root.io()).nvml == Nvml(12, "NVML Shared Library Not Found", None, None, None, asked=False)
    root.file("/usr/lib/libnvidia-ml.so.1", b"")
    assert (Host(root.io()).nvml.code, Host(root.io()).nvml.library) == (12, "/usr/lib/libnvidia-ml.so.1")


def test_a_fake_roots_library_is_asked_in_it(root, shared_object):
    root.file("/usr/lib/libnvidia-ml.so.535.183.01", shared_object("libnvidia-ml.so.1", STUB))
    root.link("/usr/lib/libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.535.183.01")
    root.file("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Wed\n")
    answer = Host(root.io(**os.environ)).nvml
    assert isinstance(answer, Nvml)
    assert (answer.code, len(answer.gpus), answer.library) == (0, 2, "/usr/lib/libnvidia-ml.so.1")


def test_a_library_that_hangs_is_unknown(tmp_path, shared_object, monkeypatch):
    monkeypatch.setattr("glmdoctor.host.probes.nvml.TIME_LIMIT", 1.0)
    path = tmp_path / "libnvidia-ml.so.1"
    shutil.copy(
        shared_object("libnvidia-ml.so.1", "int sleep(int); int nvmlInitWithFlags(int f) { return sleep(60) + f; }"),
        path,
    )
    answer = ask(path)
    assert isinstance(answer, Unknown) and "no answer within 1 s" in answer.reason


def test_a_library_that_crashes_is_unknown(tmp_path, shared_object):
    path = tmp_path / "libnvidia-ml.so.1"
    shutil.copy(
        shared_object("libnvidia-ml.so.1", "int nvmlInitWithFlags(int f) { return *(volatile int *)0 + f; }"), path
    )
    answer = ask(path)
    assert isinstance(answer, Unknown) and "exit status" in answer.reason


def test_the_ceiling_and_its_failures(root, shared_object):
    def measured(source: str):
        root.file("/usr/lib/libcuda.so.1", shared_object("libcuda.so.1", source))
        return Host(root.io(**os.environ)).ceiling

    assert measured(LIBCUDA % (12020, 0)).cuda == (12, 2)
    assert measured(LIBCUDA % (11040, 0)).cuda == (11, 4)
    assert "stub" in measured(LIBCUDA % (0, 34)).reason
    assert "error 999" in measured(LIBCUDA % (0, 999)).reason
    assert "undefined symbol" in measured("").reason


def test_the_ceiling_without_libcuda(root):
    root.folder("/usr/lib")
    loader = linker.loader(root.io())
    assert isinstance(loader, Loader)
    assert ceiling(root.io(), loader) == Unknown("no libcuda.so.1 on the loader's path")


def test_reading_all_facts_leaves_dev_as_it_was():
    def listing() -> dict[str, tuple[int, int]]:
        return {
            entry.name: (entry.stat(follow_symlinks=False).st_mode, entry.stat(follow_symlinks=False).st_rdev)
            for entry in os.scandir("/dev")
        }

    before = listing()
    Host(RealIO("/")).gather(name for name in Host.names() if name not in ("kernel_build", "cpu_run"))
    assert listing() == before
