"""NVIDIA's own libraries in the lab: fetched from the distribution when the test runs, never part of this repository.

Kept in the system's temporary folder, so that later runs need no network. Where they cannot be had, or this is no
Debian (whose packages these are), the tests are skipped with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from case import root_causes
from machine import LIB, Machine

PACKAGES = ("libnvidia-ml1", "libcuda1", "nvidia-smi")
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECONDS = 90
SHIM = Path(__file__).with_name("kernel_shim.c")
NEWER = "550.54.14"
CONFIGURATION = """
Dir::Etc::sourcelist "{folder}/sources.list"; Dir::Etc::sourceparts "{folder}/none";
Dir::State::lists "{folder}/lists"; Dir::Cache "{folder}/cache"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root"; Acquire::Retries "0"; Acquire::http::Timeout "10"; Acquire::https::Timeout "10";
"""


def source() -> str:
    """The line of the distribution's non-free part, at the mirror that this system uses."""
    targets = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    listed = subprocess.run(targets, capture_output=True, text=True, check=False).stdout.splitlines()
    for words in map(str.split, listed):
        if len(words) == 2 and words[0].rstrip("/").endswith("/debian") and os.path.exists(KEYS):
            return f"deb [signed-by={KEYS}] {words[0]} {words[1]} main contrib non-free\n"
    pytest.skip("this system's apt knows no mirror of Debian")


def fetch(folder: Path) -> None:
    """With lists and a configuration of apt's own in ``folder``; the system's are not touched."""
    for name in ("none", "lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text(source())
    (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder))
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    for command in (["update"], ["download", *PACKAGES]):
        done = subprocess.run(["apt-get", *command], cwd=folder, env=environment, capture_output=True, timeout=SECONDS)
        if done.returncode:
            pytest.skip(f"apt-get {command[0]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
    shutil.rmtree(folder / "lists")


@pytest.fixture(scope="session")
def nvidia() -> Path:
    """A folder with the unpacked packages."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("NVIDIA's libraries are fetched with apt")
    kept = Path(tempfile.gettempdir()) / f"glmdoctor-nvidia-{os.getuid()}"
    if kept.exists() and kept.stat().st_uid == os.getuid():
        return kept / "root"
    folder = Path(tempfile.mkdtemp(prefix="glmdoctor-nvidia-"))
    folder.chmod(0o755)
    try:
        fetch(folder)
        folder.rename(kept)
    except subprocess.TimeoutExpired:
        pytest.skip(f"apt-get gave no answer within {SECONDS} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return kept / "root"


@pytest.fixture
def version(machine: Machine, nvidia: Path) -> str:
    """Installs the libraries on ``machine`` as Debian lays them, and returns their version."""
    machine.card()
    folder = nvidia / "usr/lib/x86_64-linux-gnu/nvidia/current"
    [nvml] = folder.glob("libnvidia-ml.so.[0-9]*.*")
    found = nvml.name.removeprefix("libnvidia-ml.so.")
    for name in ("cuda", "nvidia-ml"):
        machine.write(f"{LIB}/lib{name}.so.{found}", (folder / f"lib{name}.so.{found}").read_bytes(), 0o755)
        machine.link(f"{LIB}/lib{name}.so.1", f"lib{name}.so.{found}")
    machine.link(f"{LIB}/libcuda.so", "libcuda.so.1")
    machine.write("/usr/bin/nvidia-smi", (nvidia / "usr/lib/nvidia/current/nvidia-smi").read_bytes(), 0o755)
    machine.default_toolkit(machine.toolkit())
    machine.link("/usr/local/cuda-12.2/lib64/libcuda.so", f"{LIB}/libcuda.so.1")
    machine.refresh_linker_cache()
    return found


def module_answers(machine: Machine, version: str) -> None:
    """A shim answers NVML's question for the version as the kernel module of ``version`` would."""
    shim = machine.stubs / "kernel_shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), str(SHIM), "-ldl"], check=True)
    machine.module(version)
    machine.environment |= {"LD_PRELOAD": str(shim), "SHIM_KVER": version}


def test_genuine_mismatch_is_named(machine: Machine, version: str) -> None:
    module_answers(machine, NEWER)
    report = machine.check()
    assert report["host"]["nvml"]["code"] == 18
    assert root_causes(report) == ["driver-library-mismatch"]
    [finding] = [f for f in report["findings"] if f["problem"] == "driver-library-mismatch"]
    assert finding["evidence"]["case"] == "upgraded-under-module"
    assert version in finding["detail"] and NEWER in finding["detail"]


def test_genuine_words_of_nvidia_smi_are_explained(machine: Machine, version: str) -> None:
    module_answers(machine, NEWER)
    said = machine.run("nvidia-smi")
    assert said.returncode == 18
    (machine.folder / "home" / "log").write_text(said.stdout + said.stderr)
    machine.environment.clear()
    explained = machine.glmdoctor("explain", str(machine.folder / "home" / "log"))
    assert "driver-library-mismatch" in explained.stdout.partition("\n\n")[0] + explained.stdout[:400]


def test_genuine_libraries_without_a_module_leave_dev_alone(machine: Machine, version: str) -> None:
    """As root, NVML would make /dev/nvidiactl here; ``Machine.check`` compares /dev before and after."""
    machine.card(driver=None)
    report = machine.check()
    assert root_causes(report) == ["driver-not-loaded"]
    assert report["host"]["nvml"]["asked"] is False
    made = machine.run("sh", "-c", f"{machine.python} -c 'import ctypes; ctypes.CDLL(\"libnvidia-ml.so.1\").nvmlInit_v2()'; ls /dev")  # fmt: skip # noqa: E501
    assert "nvidiactl" in made.stdout, "NVML no longer makes the node: the doctor's care can be lifted"


def test_genuine_libcuda_tells_its_ceiling(machine: Machine, version: str) -> None:
    module_answers(machine, version)
    report = machine.check()
    assert report["host"]["ceiling"]["cuda"] == [12, 2]
    statuses = {finding["id"]: finding["status"] for finding in report["findings"]}
    assert {statuses[f"cuda.libcuda-{name}"] for name in ("chain", "stub", "load", "link")} == {"ok"}
    assert statuses["driver.version"] == "ok"
