"""A driver that is there and out of reach: refused modules, containers, SELinux, WSL, and PTX that it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import LIB, MODULE, Stub, driver_libraries, library, loader_for, node

from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown

KERNEL = "6.1.0"  # of the fixtures' machines
DKMS = f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko"
OPEN = facts.Guards(False, False, None, None, None)
SECURE = facts.Guards(True, True, None, None, None)


def finding(machine: Stub, check: str) -> Finding:
    [found] = examine(machine, only=[check]).findings
    return found


def roots(machine: Stub) -> set[str | None]:
    return {f.problem for f in examine(machine).root_causes}


def module(path: str = DKMS, kernel: str | None = KERNEL, signed: bool | None = True) -> facts.ModuleFile:
    return facts.ModuleFile(path, MODULE, kernel, signed)


def not_loaded(machine: Stub, *files: facts.ModuleFile, other_kernels: tuple[str, ...] = (), **known: Any) -> Stub:
    """The driver is installed and its module does not run."""
    driver = {"loaded": False, "version": None, "nodes": (), "modules": files, "other_kernels": other_kernels}
    return machine.having(kernel_driver=driver, nvml=Unknown("no driver is loaded"), **{"guards": OPEN, **known})


def log(**lines: tuple[str, ...]) -> facts.KernelLog:
    return facts.KernelLog("dmesg", (), **lines)


@pytest.mark.parametrize(
    ("files", "others", "lines", "words"),
    [
        ((module(kernel="6.0.9"),), (), (), "was built for kernel 6.0.9; 6.1.0 runs"),
        ((), ("6.0.9", "6.0.8"), (), "for 6.0.9, 6.0.8, but none for 6.1.0"),
        ((module(kernel=None),), (), ("nvidia: version magic '6.0' should be '6.1'",), "version magic"),
    ],
)
def test_a_module_for_another_kernel(gpu_machine: Stub, files: Any, others: Any, lines: Any, words: str) -> None:
    machine = not_loaded(gpu_machine, *files, other_kernels=others, kernel_log=log(foreign=lines))
    found = finding(machine, "driver.module")
    assert (found.problem, found.status) == ("kernel-module-mismatch", Status.FAIL) and words in str(found.detail)
    assert roots(machine) == {"kernel-module-mismatch"}


@pytest.mark.parametrize(
    ("files", "others"),
    [
        ((module(),), ("6.0.9",)),
        ((module(), module("/lib/modules/6.1.0/updates/nvidia.ko", "6.0.9")), ()),  # one of them fits
        ((module("/lib/modules/6.1.0/weak-updates/nvidia/nvidia.ko", "6.0.9"),), ()),  # offered to it on purpose
        ((), ()),
    ],
)
def test_a_module_that_is_merely_not_loaded(gpu_machine: Stub, files: Any, others: Any) -> None:
    assert (
        finding(not_loaded(gpu_machine, *files, other_kernels=others), "driver.module").problem == "driver-not-loaded"
    )


@pytest.mark.parametrize(
    ("guards", "signed", "lines", "refused"),
    [
        (SECURE, False, (), True),
        (facts.Guards(True, None, None, None, None), False, (), True),
        (SECURE, True, (), False),  # by whose key is not known
        (SECURE, None, (), False),
        (facts.Guards(True, True, False, None, None), True, (), True),
        (facts.Guards(True, True, True, None, None), True, (), False),
        (SECURE, None, ("Loading of module with unavailable key is rejected",), True),
        (facts.Guards(None, True, None, None, None), None, ("Loading of unsigned module is rejected",), True),
        (facts.Guards(True, False, None, None, None), False, (), False),  # a kernel that asks for no signatures
        (OPEN, False, ("Loading of unsigned module is rejected",), False),
        (facts.Guards(None, None, None, None, None), False, (), False),
    ],
)
def test_whether_secure_boot_refuses_it(
    gpu_machine: Stub, guards: facts.Guards, signed: bool | None, lines: tuple[str, ...], refused: bool
) -> None:
    machine = not_loaded(gpu_machine, module(signed=signed), guards=guards, kernel_log=log(unsigned=lines))
    expected = "secure-boot-module-rejected" if refused else "driver-not-loaded"
    assert finding(machine, "driver.module").problem == expected
    assert roots(machine) == {expected}


def test_a_card_without_any_driver_under_secure_boot_has_no_driver(gpu_machine: Stub) -> None:
    machine = not_loaded(gpu_machine, guards=SECURE).having(
        libraries=(), loader=loader_for(), kernel_driver={"installed_versions": ()}
    )
    assert finding(machine, "driver.module").problem == "no-nvidia-driver"


ALL_CARDS = {"NVIDIA_VISIBLE_DEVICES": "all"}


def in_container(machine: Stub, variables: dict[str, str] = ALL_CARDS, **driver: Any) -> Stub:
    return machine.having(os={"container": "docker"}, kernel_driver=driver, settings=facts.Settings(variables))


def without_libraries(machine: Stub) -> Stub:
    return machine.having(
        libraries=(), loader=loader_for(), ceiling=Unknown("no libcuda.so.1"),
        nvml=facts.Nvml(12, "NVML Shared Library Not Found", None, None, None),
        cpm=facts.Cpm("1.0.11", tuple(facts.CpmHit(n, None, "none", (), None) for n in ("cuda", "cudart"))),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "status"),
    [(ALL_CARDS, "broken"), ({}, "degraded"), ({"NVIDIA_VISIBLE_DEVICES": "void"}, "healthy")],
)
def test_how_grave_a_missing_card_is_by_what_the_container_asks_for(
    gpu_machine: Stub, variables: dict[str, str], status: str
) -> None:
    report = examine(without_libraries(in_container(gpu_machine, variables, nodes=())))
    assert report.verdict == status, [(f.id, str(f.detail)) for f in report.findings if f.bad]
    assert [f.problem for f in report.root_causes] == (["docker-no-gpu-runtime"] if status != "healthy" else [])


def test_a_container_without_the_card_is_one_root_cause(gpu_machine: Stub) -> None:
    report = examine(without_libraries(in_container(gpu_machine, nodes=())))
    assert [f.problem for f in report.root_causes] == ["docker-no-gpu-runtime"]
    assert {"nvml-not-found", "libcuda-so-missing", "cpm-toolkit-libs-missing"} <= {f.problem for f in report.findings}
    assert MODULE in str(report.findings[0].detail) and "docker" in str(report.findings[0].detail)


def test_an_image_with_a_driver_of_its_own_needs_the_card_all_the_same(gpu_machine: Stub) -> None:
    stale = driver_libraries("550.54.14")
    for variables in (ALL_CARDS, {}):
        machine = in_container(gpu_machine, variables, nodes=())
        machine = machine.having(libraries=stale, loader=loader_for(*stale), nvml={"code": 18})
        assert roots(machine) == {"docker-no-gpu-runtime"}


def test_a_container_with_the_card_is_well(gpu_machine: Stub) -> None:
    assert examine(in_container(gpu_machine)).verdict == "healthy"


def test_a_container_on_a_host_without_a_driver_is_not_blamed(cpu_machine: Stub) -> None:
    assert examine(in_container(cpu_machine)).verdict == "healthy"


RUNTIME = "/usr/bin/nvidia-container-runtime"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (facts.Containers(None, None), Status.SKIPPED),
        (facts.Containers("/usr/bin/dockerd", RUNTIME), Status.OK),
        (facts.Containers("/usr/bin/dockerd", None, {}, ("/etc/cdi/nvidia.yaml",)), Status.OK),
        (facts.Containers("/usr/bin/dockerd", None, {"nvidia": "/opt/runtime"}), Status.OK),
        (facts.Containers("/usr/bin/dockerd", None), Status.WARN),
        (facts.Containers("/usr/bin/dockerd", RUNTIME, {"nvidia": None}), Status.WARN),
        (facts.Containers("/usr/bin/dockerd", None, {"kata": None}), Status.WARN),
    ],
)
def test_docker_on_a_host_with_a_card(gpu_machine: Stub, found: facts.Containers, status: Status) -> None:
    shown = finding(gpu_machine.having(containers=found), "driver.containers")
    assert shown.status is status
    assert shown.problem == ("docker-no-gpu-runtime" if status is Status.WARN else None)


def test_docker_without_a_card_is_nobodys_business(cpu_machine: Stub) -> None:
    machine = cpu_machine.having(containers=facts.Containers("/usr/bin/dockerd", None))
    assert examine(machine).verdict == "healthy"


LABELLED = facts.Guards(None, None, None, None, "container_t")


@pytest.mark.parametrize(
    ("guards", "mode", "problem"),
    [
        (LABELLED, 0o666, "selinux-blocks-gpu"),
        (LABELLED, 0o660, "device-node-permission"),
        (facts.Guards(None, None, None, False, "container_t"), 0o666, "device-node-permission"),  # permissive
        (facts.Guards(None, None, None, True, "spc_t"), 0o666, "device-node-permission"),  # a privileged container
        (OPEN, 0o666, "device-node-permission"),
    ],
)
def test_nodes_closed_by_a_label(gpu_machine: Stub, guards: facts.Guards, mode: int, problem: str) -> None:
    closed = tuple(node(n.path, mode=mode, readable_and_writable=False) for n in gpu_machine.kernel_driver.nodes)
    refused = {"code": 4, "message": "Insufficient Permissions", "gpus": ()}
    machine = gpu_machine.having(kernel_driver={"nodes": closed}, guards=guards, nvml=refused)
    assert finding(machine, "driver.nodes").problem == problem
    assert finding(machine, "driver.nvml").problem == problem
    assert roots(machine) == {problem}


def wsl(machine: Stub, *more: Any, used: str | None = None, sizes: tuple[int, ...] = (9, 9, 9)) -> Stub:
    """As Windows' driver lays it: copies where links would be, no module, no nodes but /dev/dxg."""
    folder = "/usr/lib/wsl/lib"
    copies = tuple(
        library("cuda", f"{folder}/libcuda.so{tail}", size=size, version="1")
        for tail, size in zip(("", ".1", ".1.1"), sizes, strict=True)
    )
    driver = {"loaded": False, "version": None, "nodes": (), "installed_versions": (), "dxg": True}
    resolved = {"libcuda.so.1": used or f"{folder}/libcuda.so.1", "libnvidia-ml.so.1": f"{folder}/libnvidia-ml.so.1"}
    return machine.having(
        os={"wsl": True}, pci=(), kernel_driver=driver, libraries=(*copies, *more),
        loader=loader_for(
            resolved=resolved, cache=tuple(facts.CacheEntry(name, path, 64, True) for name, path in resolved.items())
        ),
    )  # fmt: skip


def test_wsl_with_a_card_is_well(gpu_machine: Stub) -> None:
    machine = wsl(gpu_machine)
    assert examine(machine).verdict == "healthy"
    assert "harmless" in str(finding(machine, "wsl.libcuda").detail)


def test_wsl_lost_its_device(gpu_machine: Stub) -> None:
    machine = wsl(gpu_machine).having(kernel_driver={"dxg": False}, nvml={"code": 999, "gpus": ()})
    assert finding(machine, "wsl.adapter").problem == "wsl-gpu-lost"
    assert roots(machine) == {"wsl-gpu-lost"}
    older = machine.having(kernel_driver={"dxg": None})  # a snapshot from before the field
    assert finding(older, "wsl.adapter").status is Status.OK


def test_a_card_lost_under_wsl_is_lost_by_windows(gpu_machine: Stub) -> None:
    machine = wsl(gpu_machine).having(nvml={"code": 15, "message": "GPU is lost", "gpus": ()})
    assert roots(machine) == {"wsl-gpu-lost"}


def test_a_linux_drivers_libcuda_hides_that_of_wsl(gpu_machine: Stub) -> None:
    linux = driver_libraries(MODULE, owner="libcuda1:amd64")[0]
    machine = wsl(gpu_machine, linux, used=f"{LIB}/libcuda.so.1").having(nvml={"code": 9, "gpus": ()})
    found = finding(machine, "wsl.libcuda")
    assert (found.problem, found.status) == ("wsl-libcuda-shadowed", Status.FAIL)
    assert "[libcuda1:amd64]" in str(found.detail)
    assert roots(machine) == {"wsl-libcuda-shadowed"}


def test_copies_that_differ(gpu_machine: Stub) -> None:
    found = finding(wsl(gpu_machine, sizes=(9, 8, 9)), "wsl.libcuda")
    assert (found.problem, found.status) == ("wsl-libcuda-symlink", Status.WARN)


def nvrtc(machine: Stub, path: str, **more: Any) -> Stub:
    hits = (*(hit for hit in machine.cpm.hits if hit.library != "nvrtc"),
            facts.CpmHit("nvrtc", path, "lib64", (), True, real=path))  # fmt: skip
    return machine.having(cpm={"hits": hits}, **more)


WHEEL = "/venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"


@pytest.mark.parametrize(
    ("path", "toolkits", "wheel", "status"),
    [
        ("/usr/local/cuda-12.2/lib64/libnvrtc.so.12", {"/usr/local/cuda-12.2": "12.2.140"}, None, Status.OK),
        ("/usr/local/cuda-12.8/lib64/libnvrtc.so.12", {"/usr/local/cuda-12.8": "12.8.93"}, None, Status.WARN),
        ("/opt/lib/libnvrtc.so.12.4.127", {}, None, Status.WARN),
        ("/opt/lib/libnvrtc.so.11.2", {}, None, Status.OK),
        ("/opt/lib/libnvrtc.so.12", {}, "12.8.93", Status.SKIPPED),  # not the wheel's, and its minor does not show
        (WHEEL, {}, "12.8.93", Status.WARN),
        (WHEEL, {}, "12.1.105", Status.OK),
    ],
)
def test_nvrtc_beside_the_drivers_ceiling(
    gpu_machine: Stub, path: str, toolkits: dict[str, str], wheel: str | None, status: Status
) -> None:
    packages = {**gpu_machine.interpreter.packages, **({"nvidia-cuda-nvrtc-cu12": wheel} if wheel else {})}
    machine = nvrtc(gpu_machine, path, cuda={"toolkits": toolkits}, interpreter={"packages": packages})
    found = finding(machine, "cpm.ptx")
    assert (found.status, found.problem) == (status, "ptx-newer-than-driver" if status is Status.WARN else None)


def test_a_new_nvrtc_hurts_nobody_without_cpm_kernels_or_card(gpu_machine: Stub, cpu_machine: Stub) -> None:
    path = "/opt/lib/libnvrtc.so.13.0.88"
    assert finding(nvrtc(gpu_machine, path).having(cpm={"version": None}), "cpm.ptx").status is Status.SKIPPED
    assert not finding(nvrtc(cpu_machine, path), "cpm.ptx").bad
