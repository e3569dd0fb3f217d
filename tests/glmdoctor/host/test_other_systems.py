"""Windows and macOS, recorded: the examination goes through, Linux's own is skipped, theirs is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmdoctor.checks import examine
from glmdoctor.findings import Status
from glmdoctor.host.facts import Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO, Result
from glmdoctor.host.probes.nvml import command
from glmdoctor.host.recorded import RecordedIO
from glmdoctor.reports import FORMATS, render

GPU = {"index": 0, "name": "NVIDIA GeForce RTX 3060", "memory_total": 12 << 30, "memory_free": 11 << 30,
       "compute_capability": [8, 6], "uuid": ""}  # fmt: skip
NVML = {"code": 0, "message": "", "library": None, "library_version": "12.5", "driver_version": "536.25", "gpus": [GPU]}
NO_NVML = {**NVML, "code": 12, "message": "NVML Shared Library Not Found", "driver_version": None, "gpus": []}


def windows(*cudarts: str, nvml: dict = NVML, driver: bool = True) -> Host:
    answers = {}
    for script, answer in (("nvml.py", nvml), ("ceiling.py", {"code": 0, "message": "", "version": 12020})):
        answers[command(script)] = Result(0, json.dumps(answer), "")
    answers[("C:\\mingw\\bin\\gcc.exe", "--version")] = Result(
        0, "gcc (tdm64-1) 10.3.0\nCopyright (C) 2020 Free Software Foundation, Inc.", ""
    )
    files = dict.fromkeys([*cudarts, "C:\\mingw\\bin\\gcc.exe"], b"")
    files |= {"C:\\Windows\\System32\\nvcuda.dll": b""} if driver else {}
    path = ";".join([*(name.rpartition("\\")[0] for name in cudarts), "C:\\mingw\\bin", "C:\\Windows\\System32"])
    environ = {"PATH": path, "SystemRoot": "C:\\Windows"}
    return Host(RecordedIO(files, environ, answers, system="Windows", machine="AMD64"))


def mac() -> Host:
    clang = Result(0, "Apple clang version 15.0.0 (clang-1500.3.9.4)", "")
    return Host(RecordedIO({"/usr/bin/gcc": ""}, {"PATH": "/usr/bin"}, {("/usr/bin/gcc", "--version"): clang},
                           system="Darwin", machine="arm64"))  # fmt: skip


LINUX_ONLY = ("driver.module", "driver.nodes", "driver.version", "cuda.linker-cache", "cuda.libcuda-chain")


@pytest.mark.parametrize(("host", "system"), [(windows(), "Windows"), (mac(), "Darwin")], ids=["windows", "macos"])
def test_what_is_linux_only_is_skipped_with_the_reason(host: Host, system: str) -> None:
    report = examine(host)
    assert report.summary["crashed"] == report.summary["fail"] == 0
    found = {finding.id: finding for finding in report.findings}
    for check in LINUX_ONLY:
        assert found[check].status is Status.SKIPPED and system in str(found[check].detail), check
    assert found["compiler.found"].status is Status.OK


def test_the_driver_of_windows_is_asked() -> None:
    found = {finding.id: finding for finding in examine(windows()).findings}
    assert "536.25" in str(found["driver.nvml"].detail) and found["driver.card"].status is Status.OK
    assert "cuda:0" in found["system.capacity"].evidence["max_context"]


def test_the_first_cudart_of_the_path_wins() -> None:
    physx, right = "C:\\PhysX\\cudart64_65.dll", "C:\\CUDA\\v11.8\\bin\\cudart64_110.dll"
    wrong, good = windows(physx, right), windows(right, physx)
    for host, expected in ((wrong, physx), (good, right)):
        hit = next(hit for hit in host.cpm.hits if hit.library == "cudart")
        assert (hit.path, hit.rule) == (expected, "PATH")


def test_no_driver_on_windows() -> None:
    host = windows(nvml=NO_NVML, driver=False)
    assert host.nvml.code == 12
    assert next(hit for hit in host.cpm.hits if hit.library == "cuda").path is None
    assert examine(host).exit_status == 0


def test_the_mac_is_told_of_metal_and_its_compiler() -> None:
    found = {finding.id: finding for finding in examine(mac()).findings}
    assert found["accelerators.seen"].evidence["kind"] == "apple"
    assert mac().toolchain.compilers[0].family == "apple-clang"
    assert isinstance(mac().cpm, Unknown) and "Darwin" in mac().cpm.reason


@pytest.mark.parametrize("host", [windows(), mac()], ids=["windows", "macos"])
def test_snapshots_and_reports_of_them(host: Host) -> None:
    from glmdoctor.diagnosis import judge

    again = Host.from_snapshot(json.loads(json.dumps(host.to_snapshot())))
    assert {f.id: f.status for f in examine(again).findings} == {f.id: f.status for f in examine(host).findings}
    for form in FORMATS:
        assert render(form, judge(again), "zh")


def test_the_root_of_windows_is_no_fake_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.abspath", lambda path: "C:\\" + path.strip("/"))
    assert RealIO(environ={}).root == "/"


WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
import filelock, platformdirs, psutil  # choose their own modules by the platform
for name in sys.argv[1:]:  # so do these
    importlib.import_module(name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "curses", "syslog"):
    sys.modules[name] = None
for name in ("geteuid getuid getgid getegid setuid setgid setgroups uname sched_getaffinity chown lchown "
             "fchown fchmod killpg fork setsid getpgid O_DIRECTORY O_NOFOLLOW O_CLOEXEC").split():
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGPIPE", "SIGCHLD"):
    if hasattr(signal, name):
        delattr(signal, name)
def below(package):
    names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    return [n for n in names if ".child." not in n and not n.endswith("__main__")]
"""

READS = """
import glmdoctor
names = below(glmdoctor)
for name in [*names, "glmcore.errors", "glmcore.config", "glmcore.plan", "glmcore.chat", "glmcore.kernels.build"]:
    importlib.import_module(name)
from glmdoctor.host.host import Host
host = Host()
host.gather(["os", "cpu", "memory", "disk_cache", "settings", "state", "interpreter", "kernel_build"])
crashed = [v.reason for v in host._values.values() if "crashed" in str(getattr(v, "reason", ""))]
print(len(names), crashed)
"""

RUNTIME = """
import glmcore
names = below(glmcore)
for name in names:
    importlib.import_module(name)
print(len(names), [])
"""

EXPLAINS = """
import glmdoctor.cli
glmdoctor.cli.main(["explain", "--json"])
"""


def without_posix(script: str, *imported: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX + script, *imported]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.parametrize(
    ("script", "imported", "least"),
    [(READS, (), 90), (RUNTIME, ("torch", "transformers", "safetensors.torch"), 50)],
    ids=["glmdoctor", "glmcore"],
)
def test_nothing_that_windows_lacks_is_needed_to_import_and_read(
    script: str, imported: tuple[str, ...], least: int
) -> None:
    for name in imported:
        pytest.importorskip(name.partition(".")[0])
    done = without_posix(script, *imported)
    count, _, crashed = done.stdout.strip().partition(" ")
    assert done.returncode == 0, done.stderr
    assert int(count) > least and crashed == "[]"


def test_a_log_is_explained_without_what_windows_lacks() -> None:
    done = without_posix(EXPLAINS, stdin="RuntimeError: Library cudart is not initialized\n")
    assert done.returncode == 0 and json.loads(done.stdout)["matches"], done.stderr


@pytest.fixture()
def repairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`glmdoctor` on a recorded machine, in this process."""
    from click.testing import CliRunner

    from glmdoctor.cli.application import application
    from glmdoctor.repair.session import Repair

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def on(host: Host, *arguments: str) -> Any:
        monkeypatch.setattr(Repair, "fresh_host", lambda work, variables: host)
        monkeypatch.setattr("platform.system", lambda: host.io.system)
        done = CliRunner().invoke(application, [*arguments, "--lang", "en"], catch_exceptions=False)
        assert list(tmp_path.rglob("*")) == [] or host.io.system != "Windows"
        return done

    return on


@pytest.mark.parametrize("how", [("--dry-run",), ("--yes",), ("--dry-run", "--json"), ("--yes", "--json")])
@pytest.mark.parametrize("host", [windows(nvml=NO_NVML, driver=False), windows()], ids=["no-driver", "driver"])
def test_fix_changes_nothing_on_windows_and_says_so(repairs: Callable[..., Any], host: Host, how: tuple[str]) -> None:
    done = repairs(host, "fix", "--kernel", "--symlink", *how)
    assert "links of libcuda and the linker's cache are Linux's: Windows has none" in done.stderr
    if "--json" in how:
        assert json.loads(done.stdout)["run"] is None
    else:
        assert ("Dry run: nothing was changed" if "--dry-run" in how else "On Windows glmdoctor changes") in done.stdout


def test_undo_has_nothing_to_take_back_on_windows(repairs: Callable[..., Any]) -> None:
    done = repairs(windows(), "undo")
    assert done.exit_code == 0 and "changes nothing on Windows" in done.stderr


@pytest.mark.parametrize("how", ["--dry-run", "--yes"])
def test_the_mac_has_no_links_of_libcuda_to_mend(repairs: Callable[..., Any], how: str) -> None:
    done = repairs(mac(), "fix", "--symlink", how)
    assert done.exit_code == 0 and "Linux's: Darwin has none" in done.stderr and "There is nothing" in done.stdout
