"""Operating system, limits and the NVIDIA kernel driver, in fake roots."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from glmdoctor.checks import ALL
from glmdoctor.host.facts import Compiler, DeviceNode, KernelDriver, Memory, PciDisplay, Process, Toolchain, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO, Result
from glmdoctor.host.probes import driver, resources, system, toolchain
from glmdoctor.host.recorded import RecordedIO

GIB = 1 << 30
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14\n"
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"


def test_the_distribution_is_the_roots(root):
    root.file("/usr/lib/os-release", 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.4 LTS"\n')
    root.link("/etc/os-release", "/usr/lib/os-release")
    root.file("/proc/sys/kernel/osrelease", "6.5.0-28-generic\n")
    found = Host(root.io()).os
    assert (found.distribution, found.distribution_version, found.pretty_name) == (
        "ubuntu",
        "22.04",
        "Ubuntu 22.04.4 LTS",
    )
    assert (found.kernel, found.wsl, found.container) == ("6.5.0-28-generic", False, None)


def test_a_root_without_anything(root):
    root.folder("/")
    host = Host(root.io())
    assert (host.os.distribution, host.os.libc) == ("", "")
    assert host.libraries == ()
    assert isinstance(host.pci, Unknown)
    assert host.kernel_driver == KernelDriver(False, None, None, False, False, (), (), (), dxg=False)


def test_this_machine():
    found = system.operating_system(RealIO("/"))
    assert found.system == platform.system()
    assert found.effective_uid == os.geteuid()
    if platform.libc_ver()[0] == "glibc":
        assert found.libc == "glibc " + platform.libc_ver()[1]


def test_wsl_is_told_by_the_kernels_release(root):
    root.file("/proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
    assert Host(root.io()).os.wsl


@pytest.mark.parametrize(
    ("path", "content", "name"),
    [
        ("/.dockerenv", "", "docker"),
        ("/run/.containerenv", "engine=podman", "podman"),
        ("/proc/1/cgroup", "0::/kubepods/besteffort/pod1/abc\n", "kubernetes"),
        ("/proc/self/cgroup", "1:cpu:/lxc/one\n", "lxc"),
        ("/run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("/proc/1/cgroup", "0::/init.scope\n", None),
    ],
)
def test_containers(root, path, content, name):
    root.file(path, content)
    assert Host(root.io()).os.container == name


def test_musl(root):
    root.file("/lib/ld-musl-x86_64.so.1")
    assert Host(root.io()).os.libc == "musl"


def test_processor_and_cores(root):
    core = "processor: {0}\nmodel name\t: AMD EPYC\nphysical id\t: 0\ncore id\t\t: {1}\nflags\t\t: fpu avx2 fma\n\n"
    root.file("/proc/cpuinfo", "".join(core.format(n, n // 2) for n in range(4)))
    cpu = Host(root.io()).cpu
    assert (cpu.model, cpu.physical, cpu.features) == ("AMD EPYC", 2, ("avx2", "fma", "fpu"))
    assert cpu.usable == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "files",
    [
        {
            "/proc/self/cgroup": "0::/app/job\n",
            "/sys/fs/cgroup/app/job/cpu.max": "max 100000",
            "/sys/fs/cgroup/app/cpu.max": "50000 100000",
        },
        {"/proc/self/cgroup": "0::/gone\n", "/sys/fs/cgroup/cpu.max": "50000 100000"},
        {
            "/proc/self/cgroup": "4:cpu,cpuacct:/docker/ab\n",
            "/sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "50000",
            "/sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_a_quota_on_cores(root, files):
    for path, content in files.items():
        root.file(path, content)
    assert Host(root.io()).cpu.usable == 0.5


def test_no_quota(root):
    root.file("/proc/self/cgroup", "4:cpu:/\n")
    root.file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    assert Host(root.io()).cpu.usable >= 1


MEMINFO = f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {12 * GIB // 1024} kB\nSwapFree: {GIB // 1024} kB\n"


def test_memory_under_a_cgroups_limit(root):
    root.file("/proc/meminfo", MEMINFO)
    root.file("/proc/self/cgroup", "0::/job\n")
    root.file("/sys/fs/cgroup/job/memory.max", str(8 * GIB))
    root.file("/sys/fs/cgroup/job/memory.current", str(3 * GIB))
    root.file("/sys/fs/cgroup/job/memory.stat", f"anon 5\ninactive_file {GIB}\n")
    found = Host(root.io()).memory
    assert found == Memory(16 * GIB, 12 * GIB, GIB, 8 * GIB, 2 * GIB)
    assert found.usable == 6 * GIB


def test_memory_without_a_limit(root):
    root.file("/proc/meminfo", MEMINFO)
    root.file("/proc/self/cgroup", "4:memory:/\n")
    root.file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    found = Host(root.io()).memory
    assert (found.limit, found.usable) == (None, 12 * GIB)


def test_memory_under_ulimit(root):
    root.file("/proc/meminfo", MEMINFO)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from glmdoctor.host.io import RealIO\nfrom glmdoctor.host.probes.resources import memory\n"
        "print(memory(RealIO(sys.argv[1])).usable)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(root.path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 3 * GIB


def test_memory_by_psutil_where_there_is_no_proc():
    pytest.importorskip("psutil")
    found = resources.memory(RecordedIO({}, system="Windows"))
    assert isinstance(found, Memory) and 0 < found.available <= found.total


def test_a_disk_on_which_no_files_can_be_kept(tmp_path):
    """/proc is open to root by its modes; a file stands where the folder would have to be made."""
    found = resources.disk(RealIO("/"), "/proc/cache/glmcore")
    assert found.total == 0 and not found.writable
    (tmp_path / "file").write_text("")
    blocked = resources.disk(RealIO("/"), str(tmp_path / "file" / "glmcore"))
    assert blocked.total > 0 and not blocked.writable


def test_the_disk_of_a_folder_that_does_not_exist_yet(tmp_path):
    found = resources.disk(RealIO("/"), str(tmp_path / "a" / "b"))
    assert found.path.endswith("/a/b") and found.free <= found.total and found.writable


def test_cards_on_the_bus(root):
    def device(address: str, pci_class: str, vendor: str, bound: str | None) -> None:
        folder = f"/sys/devices/pci0000:00/{address}"
        root.file(f"{folder}/class", f"0x{pci_class}\n")
        root.file(f"{folder}/vendor", f"0x{vendor}\n")
        root.file(f"{folder}/device", "0x1bb3\n")
        if bound:
            root.link(f"{folder}/driver", f"../../../bus/pci/drivers/{bound}")
        root.link(f"/sys/bus/pci/devices/{address}", f"../../../devices/pci0000:00/{address}")

    device("0000:01:00.0", "030200", "10de", "nvidia")
    device("0000:02:00.0", "030000", "10de", "nouveau")
    device("0000:03:00.0", "020000", "8086", "e1000e")
    device("0000:04:00.0", "120000", "1da3", None)
    assert Host(root.io()).pci == (
        PciDisplay("0000:01:00.0", "10de", "1bb3", "0302", "nvidia"),
        PciDisplay("0000:02:00.0", "10de", "1bb3", "0300", "nouveau"),
        PciDisplay("0000:04:00.0", "1da3", "1bb3", "1200", None),
    )


def test_the_loaded_module(root):
    root.file("/proc/driver/nvidia/version", MODULE)
    root.file("/sys/module/nvidia/version", "535.183.01\n")
    found = Host(root.io()).kernel_driver
    assert (found.loaded, found.version, found.source) == (True, "535.183.01", "/proc/driver/nvidia/version")
    assert not found.open_module


def test_the_open_module(root):
    root.file("/proc/driver/nvidia/version", OPEN_MODULE)
    found = Host(root.io()).kernel_driver
    assert (found.version, found.open_module) == ("550.54.14", True)


def test_the_module_by_sys_alone(root):
    root.file("/sys/module/nvidia/initstate", "live\n")
    found = Host(root.io()).kernel_driver
    assert (found.loaded, found.version) == (True, None)
    root.file("/sys/module/nvidia/version", "470.256.02\n")
    assert Host(root.io()).kernel_driver.source == "/sys/module/nvidia/version"


def test_a_module_that_is_going_is_not_loaded(root):
    root.file("/sys/module/nvidia/initstate", "going\n")
    assert not Host(root.io()).kernel_driver.loaded


def test_nouveau(root):
    root.folder("/sys/module/nouveau")
    assert Host(root.io()).kernel_driver.nouveau_loaded


def test_modules_on_the_disk(root, shared_object):
    source = 'const char v[] __attribute__((section(".modinfo"))) = "license=NVIDIA\\0version=550.54.14\\0vermagic=x";'
    root.file("/proc/sys/kernel/osrelease", "6.1.0-1-amd64\n")
    root.file("/lib/modules/6.1.0-1-amd64/updates/dkms/nvidia.ko", shared_object("nvidia.ko", source))
    root.file("/lib/modules/6.1.0-1-amd64/extra/nvidia.ko", b"damaged")
    root.folder("/var/lib/dkms/nvidia/535.183.01")
    root.folder("/var/lib/dkms/nvidia/kernel-6.1")
    assert Host(root.io()).kernel_driver.installed_versions == ("535.183.01", "550.54.14")


def test_device_nodes_and_who_holds_them(root):
    root.file("/dev/nvidiactl")
    root.folder("/dev/nvidia-caps")
    root.link("/dev/nvidia0", "nowhere")
    root.file("/dev/null")
    root.link("/proc/41/fd/3", "/dev/nvidia0")
    root.file("/proc/41/comm", "python\n")
    root.link("/proc/42/fd/3", "/dev/null")
    found = Host(root.io()).kernel_driver
    assert {node.path: node.kind for node in found.nodes} == {
        "/dev/nvidia-caps": "directory",
        "/dev/nvidia0": "missing",
        "/dev/nvidiactl": "file",
    }
    assert found.holders == (Process(41, "python"),)


def test_a_character_node_is_looked_at_only():
    found = driver._node(RealIO("/"), "/dev/null")
    assert found == DeviceNode("/dev/null", "char", 0o666, 0, 0, True)


def test_other_systems_have_no_proc():
    assert isinstance(driver.kernel_driver(RecordedIO({}, system="Windows")), Unknown)


def compilers(tmp_path, scripts: dict[str, str], **environ: str) -> Toolchain:
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return toolchain.toolchain(RealIO("/", environ={"PATH": str(tmp_path), **environ}))


GCC = "echo 'gcc (Debian 12.2.0-14) 12.2.0'; echo 'Copyright (C) 2022 Free Software Foundation, Inc.'"


def test_compilers_in_their_order(tmp_path):
    found = compilers(tmp_path, {"gcc": GCC, "clang": "exit 9", "mycc": GCC}, CC=f"{tmp_path}/mycc -O2")
    assert found.compilers[0] == Compiler("gcc", str(tmp_path / "gcc"), "gcc", "12.2.0")
    assert [c.command for c in found.compilers] == ["gcc", "clang", f"{tmp_path}/mycc"]
    assert found.cc_variable == f"{tmp_path}/mycc -O2"


def test_what_a_compiler_compiles_for(tmp_path):
    target = 'if [ "$1" = -dumpmachine ]; then echo i686-linux-gnu; exit; fi; '
    [narrow] = compilers(tmp_path, {"gcc": target + GCC}).compilers
    assert (narrow.target, narrow.version) == ("i686-linux-gnu", "12.2.0")
    [silent] = compilers(tmp_path, {"gcc": 'if [ "$1" = -dumpmachine ]; then exit 1; fi; ' + GCC}).compilers
    assert silent.target == ""


def test_shared_memory_is_a_file_system_of_its_own():
    found = resources.shared_memory(RealIO("/"))
    assert isinstance(found, Unknown) or found.total >= found.free
    assert isinstance(resources.shared_memory(RecordedIO({})), Unknown)


def test_a_compiler_that_does_not_answer_is_none(tmp_path):
    """macOS without Xcode has such a gcc."""
    banner = "echo 'Apple clang version 15.0.0 (clang-1500.3.9.4)'"
    found = compilers(
        tmp_path, {"gcc": "echo 'xcrun: error: invalid active developer path' >&2; exit 1", "clang": banner}
    )
    assert found.compilers == (Compiler("clang", str(tmp_path / "clang"), "apple-clang", "15.0.0", native=True),)


def test_one_program_under_two_names_counts_once(tmp_path):
    (tmp_path / "cc").symlink_to("gcc")
    assert [c.command for c in compilers(tmp_path, {"gcc": GCC}).compilers] == ["gcc"]


def test_no_compiler_at_all(tmp_path):
    assert compilers(tmp_path, {}, CC="'unclosed").compilers == ()


def test_a_recorded_compiler():
    io = RecordedIO(
        {"/usr/bin/clang": ""},
        {"PATH": "/usr/bin"},
        {("/usr/bin/clang", "--version"): Result(0, "Debian clang version 14.0.6", "")},
    )
    assert toolchain.toolchain(io).compilers == (Compiler("clang", "/usr/bin/clang", "clang", "14.0.6"),)


@pytest.mark.parametrize(
    ("answer", "native", "problem"),
    [
        ((1, "clang: error: the clang compiler does not support '-march=native'"), False, "clang-march-native"),
        ((1, "error: unsupported argument 'native' to option '-march='"), False, "clang-march-native"),
        ((0, ""), True, None),
        ((1, "error: unable to execute command: no such file"), None, None),
    ],
)
def test_a_clang_is_asked_for_this_processor(answer: tuple[int, str], native: bool | None, problem: str | None) -> None:
    asked = ("/usr/bin/clang", "-march=native", "-fsyntax-only", "-x", "c", "-")
    io = RecordedIO(
        {"/usr/bin/clang": ""},
        {"PATH": "/usr/bin"},
        {
            ("/usr/bin/clang", "--version"): Result(0, "clang version 14.0.6", ""),
            asked: Result(answer[0], "", answer[1]),
        },
    )
    found = toolchain.toolchain(io)
    assert found.compilers[0].native is native

    class Machine:
        toolchain = found

    check = next(check for check in ALL if check.id == "compiler.native")
    assert [finding.problem for finding in check.run(Machine())] == [problem]  # type: ignore[arg-type]
