"""Card, kernel module, device nodes, NVML and the two halves of the driver: each fault on a machine that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import LIB, MODULE, OTHER, Stub, driver_libraries, library, loader_for, node

from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Mismatch, Status, WrongDriver
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown

NO_MODULE = {"loaded": False, "version": None, "source": None, "installed_versions": (), "nodes": ()}


def finding(machine: Any, check: str) -> Finding:
    """The one finding of a check."""
    [found] = examine(machine, only=[check]).findings
    return found


def roots(machine: Any) -> dict[str, str]:
    """Problem → check of each root cause of a full examination."""
    return {str(f.problem): f.id for f in examine(machine).root_causes}


def without_driver(machine: Stub, **pci: Any) -> Stub:
    card = facts.PciDisplay("0000:01:00.0", "10de", "1bb3", "0302", pci.get("driver"))
    return machine.having(
        pci=(card,),
        kernel_driver=NO_MODULE,
        libraries=(),
        loader=loader_for(),
        nvml=facts.Nvml(12, "NVML Shared Library Not Found", None, None, None),
        ceiling=Unknown("no libcuda.so.1"),
        cpm=facts.Cpm("1.0.11", tuple(facts.CpmHit(n, None, "none", (), None) for n in ("cuda", "cudart", "nvrtc"))),
    )


def test_healthy_machines_have_nothing_to_say(cpu_machine: Stub, gpu_machine: Stub) -> None:
    for machine in (cpu_machine, gpu_machine):
        report = examine(machine)
        assert report.verdict == "healthy", [(f.id, str(f.detail)) for f in report.findings if f.bad]


def test_a_toolkit_without_card_and_driver_is_healthy(cpu_machine: Stub) -> None:
    stub = library("cuda", "/usr/local/cuda/lib64/stubs/libcuda.so", found_by=("toolkit",), stub=True, version=None)
    cuda = facts.CudaInstall(
        None, None, "/usr/local/cuda", True, None, {"/usr/local/cuda": True}, {"/usr/local/cuda": "13.0.88"}, "nvcc"
    )
    assert examine(cpu_machine.having(libraries=(stub,), cuda=cuda)).verdict == "healthy"


def test_no_driver_is_one_root_cause_with_its_consequences(gpu_machine: Stub) -> None:
    report = examine(without_driver(gpu_machine))
    assert [f.problem for f in report.root_causes] == ["no-nvidia-driver"]
    consequences = {f.problem for f in report.findings if f.caused_by}
    assert {"nvml-not-found", "libcuda-so-missing", "libcuda-not-in-cuda-path"} <= consequences
    assert report.findings[0].problem == "no-nvidia-driver" and report.exit_status == 1


def test_nouveau_is_the_root_cause(gpu_machine: Stub) -> None:
    machine = without_driver(gpu_machine, driver="nouveau")
    assert roots(machine) == {"nouveau-in-the-way": "driver.module"}


def test_a_module_that_is_not_loaded(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(
        kernel_driver={**NO_MODULE, "installed_versions": (MODULE,)}, nvml=Unknown("no driver is loaded")
    )
    found = finding(machine, "driver.module")
    assert found.problem == "driver-not-loaded" and MODULE in str(found.detail)


def test_driver_libraries_without_a_card_are_a_warning(cpu_machine: Stub) -> None:
    libraries = driver_libraries(MODULE)
    report = examine(cpu_machine.having(libraries=libraries, loader=loader_for(*libraries)))
    assert report.exit_status == 0
    assert [f.problem for f in report.root_causes] == ["no-gpu-hardware", "libcuda-not-in-cuda-path"]


def test_a_card_of_a_virtual_machine_is_not_ours(cpu_machine: Stub) -> None:
    card = facts.PciDisplay("0000:01:00.0", "10de", "1bb3", "0300", "vfio-pci")
    assert examine(cpu_machine.having(pci=(card,))).verdict == "healthy"


def test_an_unreadable_bus_is_not_called_empty(cpu_machine: Stub) -> None:
    found = finding(cpu_machine.having(pci=Unknown("no /sys")), "driver.card")
    assert found.status is Status.SKIPPED and "no /sys" in str(found.detail)


def test_closed_device_nodes(gpu_machine: Stub) -> None:
    nodes = (node("/dev/nvidiactl", mode=0o600, readable_and_writable=False), *gpu_machine.kernel_driver.nodes[1:])
    found = finding(gpu_machine.having(kernel_driver={"nodes": nodes}), "driver.nodes")
    assert found.problem == "device-node-permission" and "0600" in str(found.detail)


def test_a_file_in_place_of_a_device_node(gpu_machine: Stub) -> None:
    nodes = (node("/dev/nvidia0", kind="file"), node("/dev/nvidia-uvm"))
    assert finding(gpu_machine.having(kernel_driver={"nodes": nodes}), "driver.nodes").problem == "cuda-init-os-error"


def test_uvm_is_missing_in_a_container_and_to_come_elsewhere(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(kernel_driver={"nodes": gpu_machine.kernel_driver.nodes[:2]})
    assert finding(machine, "driver.uvm").status is Status.WARN
    found = finding(machine.having(os={"container": "docker"}), "driver.uvm")
    assert (found.problem, found.status) == ("cuda-unknown-error-999", Status.FAIL)
    assert finding(machine.having(kernel_driver={"nodes": ()}), "driver.uvm").status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("code", "container", "problem"),
    [
        (4, None, "device-node-permission"),
        (12, None, "nvml-not-found"),
        (15, None, "gpu-lost"),
        (999, "docker", "container-lost-gpu"),
        (999, None, "sandbox-blocks-gpu"),
    ],
)
def test_what_nvml_answers(gpu_machine: Stub, code: int, container: str | None, problem: str) -> None:
    machine = gpu_machine.having(nvml={"code": code, "message": "no", "gpus": ()}, os={"container": container})
    found = finding(machine, "driver.nvml")
    assert found.problem == problem and found.status is Status.FAIL


def test_nvml_without_a_card_is_not_missed(cpu_machine: Stub) -> None:
    assert finding(cpu_machine, "driver.nvml").status is Status.SKIPPED


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "no-cuda-gpu-visible"),
        ("-1", "no-cuda-gpu-visible"),
        ("0,3", "invalid-device-ordinal"),
        ("0", None),
        ("GPU-1f2e", None),
    ],
)
def test_cuda_visible_devices(gpu_machine: Stub, value: str, problem: str | None) -> None:
    machine = gpu_machine.having(settings=facts.Settings({"CUDA_VISIBLE_DEVICES": value}))
    assert finding(machine, "driver.visible").problem == problem


def test_upgraded_under_the_module_names_who_holds_the_devices(gpu_machine: Stub) -> None:
    libraries = driver_libraries(OTHER)
    holders = (facts.Process(4711, "python"),)
    machine = gpu_machine.having(
        libraries=libraries, loader=loader_for(*libraries), kernel_driver={"holders": holders}, nvml={"code": 18}
    )
    found = finding(machine, "driver.version")
    assert found.problem == "driver-library-mismatch" and found.evidence["case"] == "upgraded-under-module"
    assert "python (4711)" in str(found.detail) and "reboot" in str(found.detail)
    assert f"a module {OTHER} must be built" in str(found.detail)
    built = machine.having(kernel_driver={"installed_versions": (OTHER,)})
    assert "must be built" not in str(finding(built, "driver.version").detail)
    assert list(roots(machine)) == ["driver-library-mismatch"]


def test_two_versions_name_their_files(gpu_machine: Stub) -> None:
    used = driver_libraries(OTHER, owner="libcuda1")
    rest = driver_libraries(MODULE, folder="/opt/old", found_by=("driver-folder",), owner="libcuda1-old")
    machine = gpu_machine.having(libraries=(*used, *rest), loader=loader_for(*used), nvml={"code": 18})
    found = finding(machine, "driver.version")
    assert found.payload == WrongDriver(Mismatch.TWO_VERSIONS, ("libcuda1", "libcuda1"))  # to be removed
    assert found.evidence["case"] == "two-versions"
    assert found.evidence["by_version"] == {
        OTHER: [f"{LIB}/libnvidia-ml.so.{OTHER}", f"{LIB}/libcuda.so.{OTHER}"],
        MODULE: [f"/opt/old/libcuda.so.{MODULE}", f"/opt/old/libnvidia-ml.so.{MODULE}"],
    }
    assert f"libcuda.so.{OTHER} [libcuda1]" in str(found.detail)
    assert list(roots(machine)) == ["driver-library-mismatch"]


def test_a_file_that_two_folder_names_reach_is_listed_once(gpu_machine: Stub) -> None:
    used, rest = driver_libraries(OTHER), driver_libraries(MODULE)
    twice = [replace(lib, chain=tuple(name.removeprefix("/usr") for name in lib.chain)) for lib in (*used, *rest)]
    machine = gpu_machine.having(libraries=(*used, *rest, *twice), loader=loader_for(*used), nvml={"code": 18})
    found = finding(machine, "driver.version").evidence["by_version"]
    assert found == {
        OTHER: [f"{LIB}/libnvidia-ml.so.{OTHER}", f"{LIB}/libcuda.so.{OTHER}"],
        MODULE: [f"{LIB}/libcuda.so.{MODULE}", f"{LIB}/libnvidia-ml.so.{MODULE}"],
    }


def test_a_stray_folder_needs_no_reboot(gpu_machine: Stub) -> None:
    stray = driver_libraries(OTHER, folder="/opt/old", found_by=("LD_LIBRARY_PATH",))
    rest = driver_libraries(MODULE)
    loader = loader_for(*stray, ld_library_path=("/opt/old",), cache=loader_for(*rest).cache)
    machine = gpu_machine.having(libraries=(*stray, *rest), loader=loader, nvml={"code": 18})
    found = finding(machine, "driver.version")
    assert found.evidence["case"] == "stray-folder" and found.evidence["folders"] == ["/opt/old"]
    assert "no reboot" in str(found.detail)


def test_nvml_that_works_without_the_variable(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(nvml={"code": 18, "library_version": OTHER, "code_without_ld_library_path": 0})
    assert finding(machine, "driver.version").evidence["case"] == "stray-folder"


def test_a_mismatch_of_which_only_nvml_knows(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(nvml={"code": 18, "library_version": OTHER})
    found = finding(machine, "driver.version")
    assert found.problem == "driver-library-mismatch" and OTHER in str(found.detail)


def test_a_lone_link_to_another_version_is_a_broken_link(gpu_machine: Stub) -> None:
    """NVML's library agrees with the module, so nothing was upgraded: one link is wrong and can be mended."""
    wrong = library("cuda", f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.{OTHER}")
    right = library("cuda", f"{LIB}/libcuda.so.{MODULE}", found_by=("loader-folder",))
    nvml = driver_libraries(MODULE)[1]
    machine = gpu_machine.having(libraries=(wrong, right, nvml), loader=loader_for(wrong, nvml))
    assert roots(machine) == {"libcuda-link-broken": "cuda.libcuda-version"}


def test_32_bit_twins_of_another_version_are_left_alone(gpu_machine: Stub) -> None:
    twins = driver_libraries(OTHER, folder="/usr/lib32", elf_class=32, machine="i386", found_by=("loader-folder",))
    machine = gpu_machine.having(libraries=(*gpu_machine.libraries, *twins))
    assert examine(machine).verdict == "healthy"


def test_a_compat_libcuda_older_than_the_driver(gpu_machine: Stub) -> None:
    compat = library("cuda", "/usr/local/cuda/compat/libcuda.so.1", "/usr/local/cuda/compat/libcuda.so.470.82.01")
    machine = gpu_machine.having(libraries=(compat, *gpu_machine.libraries), loader=loader_for(compat))
    assert finding(machine, "cuda.compat").problem == "cuda-compat-lib-conflict"


@pytest.mark.parametrize(
    ("card", "problem"), [("Tesla T4", None), ("NVIDIA GeForce RTX 3090", "cuda-compat-lib-conflict")]
)
def test_a_newer_compat_libcuda_is_for_data_centre_cards(gpu_machine: Stub, card: str, problem: str | None) -> None:
    compat = library("cuda", "/usr/local/cuda/compat/libcuda.so.1", "/usr/local/cuda/compat/libcuda.so.550.54.14")
    gpu = facts.NvmlGpu(0, card, 8 << 30, 8 << 30, (8, 6))
    machine = gpu_machine.having(
        libraries=(compat, *gpu_machine.libraries), loader=loader_for(compat), nvml={"gpus": (gpu,)}
    )
    assert finding(machine, "cuda.compat").problem == problem


def test_wsl_without_and_with_the_windows_driver(cpu_machine: Stub) -> None:
    wsl = cpu_machine.having(os={"wsl": True})
    found = finding(wsl, "wsl.adapter")
    assert (found.problem, found.status) == ("wsl-no-adapter", Status.WARN)
    copy = library("cuda", "/usr/lib/wsl/lib/libcuda.so.1", version="1")
    wsl = wsl.having(libraries=(copy,), loader=loader_for(copy))
    assert finding(wsl, "wsl.adapter").status is Status.OK
    assert finding(wsl, "driver.card").status is Status.OK
    assert finding(wsl, "torch.build").problem == "torch-cpu-only"


def test_a_jetson_is_no_machine_that_lost_its_card(cpu_machine: Stub) -> None:
    tegra = library("cuda", f"{LIB}/tegra/libcuda.so.1", f"{LIB}/tegra/libcuda.so.1.1")
    assert examine(cpu_machine.having(libraries=(tegra,), loader=loader_for(tegra))).verdict == "healthy"


def test_two_independent_problems_are_two_root_causes(gpu_machine: Stub) -> None:
    dangling = library("cuda", f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.{MODULE}", fault="dangling")
    closed = (node("/dev/nvidiactl", mode=0o600, readable_and_writable=False), node("/dev/nvidia-uvm"))
    nvml = gpu_machine.libraries[1]
    machine = gpu_machine.having(
        libraries=(dangling, nvml),
        loader=loader_for(nvml),
        kernel_driver={"nodes": closed},
        nvml={"code": 4, "gpus": ()},
        ceiling=Unknown("libcuda.so.1 does not load"),
    )
    report = examine(machine)
    assert {f.problem for f in report.root_causes} == {"device-node-permission", "libcuda-link-broken"}
    assert {f.problem for f in report.findings if f.caused_by} == {"device-node-permission", "libcuda-so-missing"}
