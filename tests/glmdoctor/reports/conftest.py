"""A machine with a broken library chain, and a report with findings of every status and nasty words."""

from __future__ import annotations

import pytest

from glmdoctor.diagnosis import Diagnosis
from glmdoctor.findings import Finding, Remedy, Report, Status
from glmdoctor.host import facts, snapshot
from glmdoctor.host.host import Host
from glmdoctor.messages import text

LIB = "/usr/lib/x86_64-linux-gnu"
WHEEL = "/home/alice/venv/lib/python3.11/site-packages/nvidia/cuda_runtime/lib/libcudart.so.12"


def library(
    name: str, *chain: str, fault: str | None = None, version: str | None = None, stub: bool = False
) -> facts.Library:
    return facts.Library(name, chain[0], chain, ("loader-folder",), fault, 1, 64, "x86_64", None, version, stub)


def hit(name: str, path: str | None, rule: str) -> facts.CpmHit:
    return facts.CpmHit(name, path, rule, (), path is not None)


def machine() -> Host:
    driver = f"{LIB}/libcuda.so.550.54.14"
    values = {
        "os": facts.Os(
            "Linux", "6.1.0", "x86_64", "debian", "12", "Debian GNU/Linux 12", None, False, 1000, "glibc 2.36"
        ),
        "cpu": facts.Cpu("AMD EPYC", 2, 2, 2.0, ("avx2",)),
        "memory": facts.Memory(16 << 30, 12 << 30, 0, None, None),
        "kernel_driver": facts.KernelDriver(True, "550.54.14", "/sys/module/nvidia/version", False, False, (), (), ()),
        "libraries": (
            library("cuda", f"{LIB}/libcuda.so", f"{LIB}/libcuda.so.1", driver, version="550.54.14"),
            library("cuda", f"{LIB}/libcuda.so.1", driver, version="550.54.14"),
            library("cuda", "/usr/local/cuda/lib64/libcuda.so", "/opt/gone/libcuda.so", fault="dangling"),
            library("cuda", "/usr/local/cuda/lib64/stubs/libcuda.so", stub=True),
            library("cudart", WHEEL, version="12"),
        ),
        "loader": facts.Loader(
            (), (LIB,), "/etc/ld.so.cache", (), None, {"libcuda.so.1": f"{LIB}/libcuda.so.1", "libnvidia-ml.so.1": None}
        ),
        "cpm": facts.Cpm(
            "1.0.11",
            (
                hit("cuda", "/usr/local/cuda/lib64/libcuda.so", "/usr/local/cuda/lib64"),
                hit("cudart", None, "none"),
                hit("nvrtc", None, "none"),
            ),
        ),
        "interpreter": facts.Interpreter(
            "/home/alice/venv/bin/python", "3.11.7", "/home/alice/venv", "linux_x86_64", {}, ()
        ),
        "torch": facts.Torch(
            "2.4.0+cu121", "12.1", None, "/home/alice/venv/lib/python3.11/site-packages/torch", (WHEEL,)
        ),
        "nvml": facts.Unknown("not asked"),
    }
    values |= {name: facts.Unknown("not recorded") for name in Host.names() if name not in values}
    return Host.from_snapshot(snapshot.encode(values, {}))


def findings() -> tuple[Finding, ...]:
    link = Remedy("link", text("Link {path}", path="/home/alice/x"), True, True, True, ("ln -s 'a b' /home/alice/x",))
    return (
        Finding(
            "cuda.chain",
            Status.FAIL,
            text("The link leads nowhere"),
            text(
                "gcc said: {log}",
                log="\x1b[31mbad\x1b[0m <b> | `x` _y_\nat /home/alice/a.c\x00, key hf_abcdefghijklmnop",
            ),
            "libcuda-link-broken",
            {"path": "/home/alice/x", "count": 3},
            True,
            (),
            (link,),
        ),
        Finding(
            "cpm.cuda",
            Status.FAIL,
            text("cpm_kernels finds no libcuda"),
            text("-"),
            "libcuda-not-in-cuda-path",
            {},
            False,
            ("cuda.chain",),
        ),
        Finding("cpm.deep", Status.WARN, text("Deeper still"), text("-"), "gcc-missing", {}, False, ("cpm.cuda",)),
        Finding(
            "torch.old",
            Status.WARN,
            text("torch is old: {p}%", p=50),
            text("by alice@example.org, 10.1.2.3:80"),
            "tf-too-old",
            {},
            True,
        ),
        Finding("x.crash", Status.CRASHED, text("A check"), text("It broke")),
        Finding("x.unknown", Status.UNKNOWN, text("Cannot tell"), text("No idea")),
        Finding("system.cpu", Status.OK, text("Fine"), text("2 threads")),
        Finding("wsl.one", Status.SKIPPED, text("WSL"), text("This is not WSL.")),
        Finding("wsl.two", Status.SKIPPED, text("WSL"), text("This is not WSL.")),
    )


@pytest.fixture()
def diagnosis() -> Diagnosis:
    return Diagnosis(machine(), Report(findings()))


@pytest.fixture()
def healthy() -> Diagnosis:
    return Diagnosis(machine(), Report((Finding("system.cpu", Status.OK, text("Fine"), text("2 threads")),)))
