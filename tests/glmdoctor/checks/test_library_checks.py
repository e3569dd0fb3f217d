"""libcuda's chain, the loader, CUDA's paths and cpm_kernels' search: each fault on a machine that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import CPM, LIB, MODULE, Stub, library, loader_for

from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host import facts

REAL = f"{LIB}/libcuda.so.{MODULE}"


def finding(machine: Any, check: str) -> Finding:
    [found] = examine(machine, only=[check]).findings
    return found


def hits(**changed: facts.CpmHit) -> facts.Cpm:
    """cpm_kernels' search with all found except what is given."""
    found = {n: facts.CpmHit(n, f"/usr/local/cuda/lib64/lib{n}.so", "/usr/local/cuda/lib64", (), True) for n in CPM}
    return facts.Cpm("1.0.11", tuple({**found, **changed}.values()))


def none(name: str) -> facts.CpmHit:
    return facts.CpmHit(name, None, "none", (f"/usr/local/cuda/lib64/lib{name}.so",), None)


@pytest.mark.parametrize("fault", ["dangling", "loop", "empty", "not-elf", "truncated"])
def test_a_broken_chain_names_every_link(gpu_machine: Stub, fault: str) -> None:
    chain = (f"{LIB}/libcuda.so", f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.9")
    broken = library("cuda", *chain, fault=fault)
    found = finding(gpu_machine.having(libraries=(broken,), loader=loader_for()), "cuda.libcuda-chain")
    assert (found.problem, found.status) == ("libcuda-link-broken", Status.FAIL)
    assert " → ".join(chain) in str(found.detail) and found.evidence["fault"] == fault


def test_a_leftover_beside_a_working_libcuda_is_a_warning(gpu_machine: Stub) -> None:
    leftover = library(
        "cuda", "/usr/lib/nvidia/libcuda.so.9", "/nowhere", found_by=("driver-folder",), fault="dangling"
    )
    machine = gpu_machine.having(libraries=(*gpu_machine.libraries, leftover))
    assert finding(machine, "cuda.libcuda-chain").status is Status.WARN


def test_a_broken_link_of_the_toolkit_fails_beside_a_working_libcuda(gpu_machine: Stub) -> None:
    link = library("cuda", "/usr/local/cuda/lib64/libcuda.so", "/nowhere", found_by=("toolkit",), fault="dangling")
    machine = gpu_machine.having(libraries=(*gpu_machine.libraries, link))
    assert finding(machine, "cuda.libcuda-chain").status is Status.FAIL


def test_a_broken_chain_without_a_card_is_a_warning(cpu_machine: Stub) -> None:
    broken = library("cuda", f"{LIB}/libcuda.so.1", f"{LIB}/gone", fault="dangling")
    report = examine(cpu_machine.having(libraries=(broken,)))
    assert report.exit_status == 0 and [f.problem for f in report.root_causes] == ["libcuda-link-broken"]


def test_a_32_bit_file_in_the_place_of_a_64_bit_one(gpu_machine: Stub) -> None:
    wrong = library("cuda", f"{LIB}/libcuda.so.1", elf_class=32, machine="i386")
    twin = library("cuda", "/usr/lib32/libcuda.so.1", elf_class=32, machine="i386")
    machine = gpu_machine.having(libraries=(*gpu_machine.libraries, wrong))
    assert finding(machine, "cuda.libcuda-chain").evidence["fault"] == "wrong-machine"
    machine = gpu_machine.having(libraries=(*gpu_machine.libraries, twin))
    assert finding(machine, "cuda.libcuda-chain").status is Status.OK


def test_a_stub_that_the_loader_or_cpm_kernels_takes(gpu_machine: Stub) -> None:
    stub = library("cuda", "/usr/local/cuda/lib64/stubs/libcuda.so.1", found_by=("LD_LIBRARY_PATH",), stub=True)
    machine = gpu_machine.having(libraries=(stub,), loader=loader_for(stub))
    assert finding(machine, "cuda.libcuda-stub").problem == "libcuda-stub-loaded"
    hit = facts.CpmHit("cuda", "/usr/local/cuda/lib64/libcuda.so", "CUDA_PATH/lib64", (), False, stub=True)
    found = finding(gpu_machine.having(cpm=hits(cuda=hit)), "cuda.libcuda-stub")
    assert found.problem == "libcuda-stub-loaded" and "cpm_kernels" in str(found.detail)


def test_a_stub_that_merely_lies_there_is_fine(gpu_machine: Stub) -> None:
    stub = library("cuda", "/usr/local/cuda/lib64/stubs/libcuda.so", found_by=("toolkit",), stub=True)
    machine = gpu_machine.having(libraries=(*gpu_machine.libraries, stub))
    assert finding(machine, "cuda.libcuda-stub").status is Status.OK


def test_cpm_kernels_does_not_find_libcuda(gpu_machine: Stub) -> None:
    """The headline: the driver works, and Library cuda is not initialized all the same."""
    found = finding(gpu_machine.having(cpm=hits(cuda=none("cuda"))), "cuda.libcuda-link")
    assert (found.problem, found.status) == ("libcuda-not-in-cuda-path", Status.FAIL)
    assert "/usr/local/cuda/lib64/libcuda.so" in str(found.detail) and f"{LIB}/libcuda.so.1" in str(found.detail)
    assert found.evidence["candidates"] == [f"{LIB}/libcuda.so.1"]


def test_who_needs_the_search_of_cpm_kernels(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(cpm=facts.Cpm(None, hits(cuda=none("cuda")).hits))
    assert finding(machine, "cuda.libcuda-link").status is Status.WARN  # torch is here, cpm_kernels is not
    light = machine.having(torch=facts.Unknown("torch is not installed"))
    assert finding(light, "cuda.libcuda-link").status is Status.FAIL


def test_cpm_kernels_finds_a_file_that_does_not_load(gpu_machine: Stub) -> None:
    hit = facts.CpmHit("cuda", "/usr/local/cuda/lib64/libcuda.so", "CUDA_PATH/lib64", (), False)
    assert finding(gpu_machine.having(cpm=hits(cuda=hit)), "cuda.libcuda-link").problem == "libcuda-not-in-cuda-path"


def test_libcuda_outside_the_loaders_folders(gpu_machine: Stub) -> None:
    away = library("cuda", "/opt/driver/libcuda.so.1", f"/opt/driver/libcuda.so.{MODULE}", found_by=("driver-folder",))
    nvml = gpu_machine.libraries[1]
    found = finding(gpu_machine.having(libraries=(away, nvml), loader=loader_for(nvml)), "cuda.libcuda-load")
    assert found.problem == "libcuda-so-missing" and "/opt/driver/libcuda.so.1" in str(found.detail)


def test_a_library_that_the_cache_does_not_know(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(
        loader=loader_for(gpu_machine.libraries[1]), cpm=hits(cuda=none("cuda")), ceiling=facts.Unknown("no libcuda")
    )
    report = examine(machine)
    assert [f.problem for f in report.root_causes] == ["linker-cache-stale"]
    assert {f.problem for f in report.findings if f.caused_by} == {"libcuda-so-missing", "libcuda-not-in-cuda-path"}


def test_an_entry_whose_file_is_gone(gpu_machine: Stub) -> None:
    gone = facts.CacheEntry("libcudart.so.11.0", "/usr/local/cuda-11/lib64/libcudart.so.11.0", 64, False)
    cache = (*gpu_machine.loader.cache, gone)
    found = finding(gpu_machine.having(loader={"cache": cache}), "cuda.linker-cache")
    assert (found.problem, found.status) == ("linker-cache-stale", Status.WARN)
    gone = facts.CacheEntry("libcuda.so.1", f"{LIB}/libcuda.so.1.old", 64, False)
    found_otherwise = gpu_machine.having(loader={"cache": (gone,)})
    assert finding(found_otherwise, "cuda.linker-cache").status is Status.WARN
    lost = gpu_machine.having(loader={"cache": (gone,), "resolved": {}})
    assert finding(lost, "cuda.linker-cache").status is Status.FAIL


def test_a_dangling_link_is_not_blamed_on_the_cache(gpu_machine: Stub) -> None:
    broken = library("cuda", f"{LIB}/libcuda.so.1", f"{LIB}/gone", fault="dangling")
    nvml = gpu_machine.libraries[1]
    cache = (facts.CacheEntry("libcuda.so.1", f"{LIB}/libcuda.so.1", 64, False), *loader_for(nvml).cache)
    machine = gpu_machine.having(libraries=(broken, nvml), loader=loader_for(nvml, cache=cache))
    assert finding(machine, "cuda.linker-cache").status is Status.OK
    assert [f.problem for f in examine(machine).root_causes] == ["libcuda-link-broken"]


def test_musl_has_no_cache_to_be_stale(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(os={"libc": "musl 1.2.4"}, loader=loader_for(cache_fault="missing"))
    assert finding(machine, "cuda.linker-cache").status is Status.SKIPPED


def cuda(**fields: Any) -> facts.CudaInstall:
    return facts.CudaInstall(**{
        "cuda_path": None, "cuda_home": None, "default": "/usr/local/cuda", "default_exists": True,
        "default_target": None, "folders": {}, "toolkits": {"/usr/local/cuda-12.2": "12.2.140"}, "nvcc": None, **fields,
    })  # fmt: skip


def test_cuda_path_to_nowhere(gpu_machine: Stub, cpu_machine: Stub) -> None:
    wrong = cuda(cuda_path="/opt/cuda-9", folders={"/opt/cuda-9": False})
    found = finding(gpu_machine.having(cuda=wrong, cpm=hits(cudart=none("cudart"))), "cuda.path")
    assert (found.problem, found.status) == ("cuda-path-wrong", Status.FAIL)
    assert "/opt/cuda-9" in str(found.detail) and "/usr/local/cuda-12.2 (12.2.140)" in str(found.detail)
    assert finding(gpu_machine.having(cuda=wrong, cpm=hits()), "cuda.path").status is Status.WARN
    assert finding(cpu_machine.having(cuda=wrong), "cuda.path").status is Status.WARN


def test_the_default_folder_dangles(gpu_machine: Stub) -> None:
    dangling = cuda(default_exists=False, default_target="/usr/local/cuda-11.7")
    found = finding(gpu_machine.having(cuda=dangling), "cuda.path")
    assert found.problem == "cuda-path-wrong" and "/usr/local/cuda-11.7" in str(found.detail)


def test_the_two_variables_disagree_only_about_versions(gpu_machine: Stub) -> None:
    folders, toolkits = {"/a": True, "/b": True}, {"/a": "11.8.0", "/b": "12.2.0"}
    both = cuda(cuda_path="/a", cuda_home="/b", folders=folders, toolkits=toolkits)
    assert finding(gpu_machine.having(cuda=both), "cuda.path").status is Status.WARN
    private = cuda(cuda_path="/a", cuda_home="/b", folders=folders, toolkits={"/b": "12.2.0"})
    assert finding(gpu_machine.having(cuda=private), "cuda.path").status is Status.OK


def test_toolkit_libraries_that_cpm_kernels_misses(gpu_machine: Stub, chatglm2: Any) -> None:
    machine = gpu_machine.having(cpm=hits(cudart=none("cudart")))
    found = finding(machine, "cpm.toolkit")
    assert (found.problem, found.status) == ("cpm-toolkit-libs-missing", Status.WARN)
    assert found.evidence["missing"] == ["cudart"]
    quantised = replace(chatglm2, quantization_bit=4)
    assert finding(machine.having(checkpoint=quantised), "cpm.toolkit").status is Status.FAIL
    absent = facts.Cpm(None, machine.cpm.hits)
    assert finding(machine.having(cpm=absent), "cpm.toolkit").status is Status.SKIPPED


def test_a_wrong_cuda_path_explains_the_missing_libraries(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(
        cuda=cuda(cuda_path="/opt/cuda-9", folders={"/opt/cuda-9": False}), cpm=hits(cudart=none("cudart"))
    )
    assert [f.problem for f in examine(machine).root_causes] == ["cuda-path-wrong"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("C:\\Program Files\\NVIDIA Corporation\\PhysX\\Common\\cudart64_65.dll", "cpm-wrong-cudart-picked"),
        ("C:\\CUDA\\v11.7\\bin\\cudart64_110.dll", None),
        ("C:\\CUDA\\v12.2\\bin\\cudart64_12.dll", None),
    ],
)
def test_the_first_cudart_on_the_path_of_windows(gpu_machine: Stub, path: str, problem: str | None) -> None:
    machine = gpu_machine.having(
        os={"system": "Windows"}, cpm=hits(cudart=facts.CpmHit("cudart", path, "PATH", (), None))
    )
    assert finding(machine, "cpm.cudart").problem == problem
    without = machine.having(cpm=replace(machine.cpm, version=None))
    assert finding(without, "cpm.cudart").status is Status.SKIPPED  # nobody would run that search


def test_torch_without_its_cuda_runtime(gpu_machine: Stub) -> None:
    machine = gpu_machine.having(torch={"bundled": ("/venv/lib/nvidia/libcublasLt.so.12",)})
    assert finding(machine, "cuda.runtime").problem == "cuda-runtime-so-missing"
    assert finding(gpu_machine.having(torch={"bundled": ()}), "cuda.runtime").status is Status.SKIPPED


def test_an_older_cublaslt_before_that_of_torch(gpu_machine: Stub) -> None:
    soname = "libcublasLt.so.12"
    old = library("cublasLt", "/opt/a/libcublasLt.so.12.1.0", found_by=("LD_LIBRARY_PATH",), soname=soname)
    new = library("cublasLt", "/venv/libcublasLt.so.12", found_by=("wheel",), soname=soname, version="12.4.5")
    assert finding(gpu_machine.having(libraries=(old, new)), "cuda.cublaslt").problem == "cublaslt-symbol-conflict"
    assert finding(gpu_machine.having(libraries=(new,)), "cuda.cublaslt").status is Status.OK


def test_machine_code_of_cpm_kernels(gpu_machine: Stub) -> None:
    def judged(capability: tuple[int, int], *code: int) -> Finding:
        gpu = replace(gpu_machine.nvml.gpus[0], compute_capability=capability)
        return finding(gpu_machine.having(nvml={"gpus": (gpu,)}, cpm={"architectures": code}), "cpm.code")

    real = (61, 62, 70, 72, 75, 80, 86)  # of cpm_kernels 1.0.11
    assert [judged(card, *real).status for card in ((6, 1), (7, 5), (8, 6), (8, 9))] == [Status.OK] * 4
    for card in ((5, 2), (6, 0), (8, 7), (9, 0), (12, 0)):
        found = judged(card, *real)
        assert (found.status, found.problem) == (Status.WARN, "cpm-kernels-arch-unsupported")
        assert f"{card[0]}.{card[1]}" in str(found.detail)
    assert judged((6, 1), 60, 62).status is Status.OK and judged((6, 1), 62).status is Status.WARN
    assert judged((9, 0)).status is Status.SKIPPED


def test_machine_code_of_the_models_own_file(gpu_machine: Stub, chatglm2: Any) -> None:
    machine = gpu_machine.having(checkpoint=replace(chatglm2, gpu_code=(70, 80)))
    found = finding(machine, "cpm.code")  # a card of 6.1
    assert (found.status, found.problem) == (Status.WARN, "cpm-kernels-arch-unsupported")
    assert "quantization.py" in str(found.title) and found.evidence["architectures"] == [70, 80]
    assert finding(machine.having(checkpoint={"gpu_code": (61, 70)}), "cpm.code").status is Status.OK


def test_an_entry_of_path_that_is_a_file(gpu_machine: Stub) -> None:
    windows = gpu_machine.having(os={"system": "Windows"})
    assert finding(windows, "cpm.path").status is Status.OK
    found = finding(windows.having(cpm={"path_files": ("C:\\ffmpeg\\ffmpeg.exe",)}), "cpm.path")
    assert (found.status, found.problem) == (Status.WARN, "cpm-path-entry-is-file")
    assert "ffmpeg.exe" in str(found.detail)
    assert finding(gpu_machine, "cpm.path").status is Status.SKIPPED


def test_a_processor_without_avx2(gpu_machine: Stub) -> None:
    assert finding(gpu_machine, "system.cpu").status is Status.OK
    found = finding(gpu_machine.having(cpu={"features": ("avx", "sse4_2")}), "system.cpu")
    assert (found.status, found.problem) == (Status.WARN, "cpu-no-avx2")
    arm = gpu_machine.having(cpu={"features": ("asimd",)}, os={"machine": "aarch64"})
    assert finding(arm, "system.cpu").status is Status.OK
    assert finding(gpu_machine.having(cpu={"features": ()}), "system.cpu").status is Status.OK  # not told


@pytest.mark.parametrize(
    ("target", "tag", "problem"),
    [
        ("x86_64-linux-gnu", "linux_x86_64", None),
        ("x86_64-w64-mingw32", "win_amd64", None),
        ("aarch64-linux-gnu", "linux_aarch64", None),
        ("arm64-apple-darwin23.1.0", "macosx_14_0_arm64", None),
        ("", "linux_x86_64", None),  # it did not tell
        ("mingw32", "win_amd64", "compiler-32bit"),
        ("i686-w64-mingw32", "win_amd64", "compiler-32bit"),
        ("i686-linux-gnu", "linux_x86_64", "compiler-32bit"),
        ("x86_64-linux-gnux32", "linux_x86_64", "compiler-32bit"),
        ("arm-linux-gnueabihf", "linux_aarch64", "compiler-32bit"),
        ("mingw32", "win32", None),  # a 32-bit Python takes them
    ],
)
def test_what_the_compiler_makes(gpu_machine: Stub, target: str, tag: str, problem: str | None) -> None:
    compiler = replace(gpu_machine.toolchain.compilers[0], target=target)
    machine = gpu_machine.having(toolchain={"compilers": (compiler,)}, interpreter={"platform_tag": tag})
    found = finding(machine, "compiler.found")
    assert (found.problem, found.status) == (problem, Status.WARN if problem else Status.OK)


def test_shared_memory_of_a_container(gpu_machine: Stub) -> None:
    def judged(container: str | None, total: int, free: int, cards: int) -> Finding:
        gpus = tuple(replace(gpu_machine.nvml.gpus[0], index=index) for index in range(cards))
        shared = facts.Disk("/dev/shm", total << 20, free << 20, True)
        machine = gpu_machine.having(os={"container": container}, nvml={"gpus": gpus}, shared_memory=shared)
        return finding(machine, "system.shared-memory")

    assert judged(None, 64, 0, 8).status is Status.SKIPPED
    assert judged("docker", 64, 64, 1).status is Status.OK  # what every container has
    assert judged("docker", 8192, 8000, 8).status is Status.OK
    for few in (judged("docker", 64, 64, 2), judged("kubernetes", 64, 1, 0)):
        assert (few.status, few.problem) == (Status.WARN, "docker-shm-too-small")
