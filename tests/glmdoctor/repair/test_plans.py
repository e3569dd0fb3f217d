"""From facts to plans, with nothing read and nothing done: what is linked to what, and what never is."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from glmdoctor.actions import PlaceLink, RefreshLinkerCache
from glmdoctor.findings import Chains, Finding, Mismatch, Payload, Status, WrongDriver
from glmdoctor.host import facts
from glmdoctor.host.facts import Unknown
from glmdoctor.messages import text
from glmdoctor.remedies import Options, Plan, chains, links, plan, plans, variables

LIB = "/usr/lib/x86_64-linux-gnu"
MODULE, OTHER = "535.183.01", "550.54.14"
SITE = "/venv/lib/python3.11/site-packages"
PRIVATE = "/home/user/.local/share/glmdoctor"
AS_ROOT = Options(PRIVATE, lambda folder: True)
AS_USER = Options(PRIVATE, lambda folder: folder.startswith("/home/user"))


def library(name: str, *chain: str, found_by: str = "loader-folder", **fields: Any) -> facts.Library:
    tail = posixpath.basename(chain[-1]).partition(".so.")[2]
    soname = "libcuda.so.1" if name == "cuda" else f"lib{name}.so.{tail.split('.')[0]}"
    values = {"fault": None, "elf_class": 64, "machine": "x86_64", "soname": soname, "version": tail or None}
    return facts.Library(name, chain[0], chain, (found_by,), **{**values, "real": chain[-1], **fields})


def driver(version: str = MODULE, folder: str = LIB, **fields: Any) -> tuple[facts.Library, ...]:
    file = f"{folder}/libcuda.so.{version}"
    return library("cuda", f"{folder}/libcuda.so.1", file, **fields), library("cuda", file, **fields)


def toolkit(folder: str = "/usr/local/cuda-12.2", release: str = "12", **fields: Any) -> tuple[facts.Library, ...]:
    names = ("cudart", "nvrtc", "cublasLt")
    return tuple(library(n, f"{folder}/lib64/lib{n}.so.{release}", found_by="toolkit", **fields) for n in names)


def wheels(release: str = "12") -> tuple[facts.Library, ...]:
    places = {"cudart": "cuda_runtime", "nvrtc": "cuda_nvrtc", "nvrtc-builtins": "cuda_nvrtc", "cublasLt": "cublas"}
    return tuple(
        library(n, f"{SITE}/nvidia/{place}/lib/lib{n}.so.{release}", found_by="wheel") for n, place in places.items()
    )


def machine(*libraries: facts.Library, **changed: Any) -> Any:
    """A loaded driver, a toolkit at /usr/local/cuda, and a search of cpm_kernels that finds nothing."""
    os = facts.Os("Linux", "6.1", "x86_64", "debian", "12", "Debian 12", None, False, 1000, "glibc 2.36")
    module = facts.KernelDriver(True, MODULE, "/sys/module/nvidia/version", False, False, (), (), ())
    loader = facts.Loader((), (LIB,), "/etc/ld.so.cache", (), None, {"libcuda.so.1": f"{LIB}/libcuda.so.1"})
    cuda = facts.CudaInstall(
        None, None, "/usr/local/cuda", True, "/usr/local/cuda-12.2", {"/usr/local/cuda": True},
        {"/usr/local/cuda-12.2": "12.2.0"}, None,
    )  # fmt: skip
    hits = tuple(facts.CpmHit(n, None, "none", (), None) for n in ("nvrtc", "cuda", "cudart", "cublasLt"))
    values = {
        "os": os, "kernel_driver": module, "loader": loader, "cuda": cuda, "cpm": facts.Cpm("1.0.11", hits),
        "torch": facts.Torch("2.4.1+cu121", "12.1", None, f"{SITE}/torch", ()), "libraries": libraries,
        "state": facts.State(None, (), ()), "interpreter": Unknown("not read"), "nvml": Unknown("not read"),
        "ceiling": Unknown("not read"), "checkpoint": Unknown("not read"), "toolchain": Unknown("not read"),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changed})


def finding(problem: str, payload: Payload | None = None) -> Finding:
    return Finding(f"check.{problem}", Status.FAIL, text("t"), text("d"), problem, root_cause=True, payload=payload)


def placed(found: Plan | None) -> dict[str, str]:
    assert found is not None
    return {action.path: action.target for action in found.actions if isinstance(action, PlaceLink)}


def test_under_wsl_windows_libcuda_is_put_before_a_linux_drivers() -> None:
    windows = "/usr/lib/wsl/lib/libcuda.so.1"
    own = library("cuda", windows, found_by="driver-folder", version="1")
    here = machine(*driver(), own, kernel_driver=facts.KernelDriver(False, None, None, False, False, (), (), ()))
    here.os = replace(here.os, wsl=True)
    found = plan(finding("wsl-libcuda-shadowed"), here, options=AS_USER)
    assert placed(found)[f"{PRIVATE}/driver/libcuda.so.1"] == windows
    assert found and found.environment["LD_LIBRARY_PATH"] == f"{PRIVATE}/driver" and not found.needs_root


NOT_LINKED, NO_TOOLKIT = finding("libcuda-not-in-cuda-path"), finding("cpm-toolkit-libs-missing")


def test_root_completes_the_toolkit_folder() -> None:
    found = plan(NOT_LINKED, machine(*driver(), *toolkit()), options=AS_ROOT)
    assert found is not None and found.needs_root
    assert placed(found)["/usr/local/cuda/lib64/libcuda.so"] == f"{LIB}/libcuda.so.1"
    assert all(path.startswith("/usr/local/cuda/lib64/lib") for path in placed(found))


def test_cuda_path_comes_before_the_default_toolkit() -> None:
    cuda = facts.CudaInstall(
        "/opt/cuda", None, "/usr/local/cuda", True, None, {"/opt/cuda": True, "/usr/local/cuda": True}, {}, None
    )
    found = plan(NOT_LINKED, machine(*driver(), cuda=cuda), options=AS_ROOT)
    assert list(placed(found)) == ["/opt/cuda/lib64/libcuda.so"]


def test_a_user_gets_a_private_cuda_path_with_everything() -> None:
    found = plan(NOT_LINKED, machine(*driver(), *toolkit()), options=AS_USER)
    assert found is not None and not found.needs_root
    assert found.environment == {"CUDA_PATH": f"{PRIVATE}/cuda"} and found.commands == (
        f"export CUDA_PATH={PRIVATE}/cuda",
    )
    names = {posixpath.basename(path) for path in placed(found)}
    assert names == {
        "libcuda.so", "libcuda.so.1", "libcudart.so", "libcudart.so.12", "libnvrtc.so", "libnvrtc.so.12",
        "libcublasLt.so", "libcublasLt.so.12",
    }  # fmt: skip
    assert all(path.startswith(f"{PRIVATE}/cuda/lib64/") for path in placed(found))


def test_the_library_that_nvrtc_opens_by_name_comes_along() -> None:
    found = plan(NO_TOOLKIT, machine(*driver(), *wheels()), options=AS_USER)
    builtins = {path: target for path, target in placed(found).items() if "builtins" in path}
    assert list(builtins) == [f"{PRIVATE}/cuda/lib64/libnvrtc-builtins.so.12"]


@pytest.mark.parametrize(
    "wrong",
    [
        driver(OTHER),
        driver(MODULE, fault="empty"),
        driver(MODULE, stub=True),
        driver(MODULE, machine="i386", elf_class=32),
        driver(MODULE, folder="/usr/local/cuda-12.2/compat"),
        driver(MODULE, folder=f"{PRIVATE}/cuda/lib64"),
    ],
    ids=["other-version", "empty", "stub", "32-bit", "compat", "own"],
)
def test_nothing_is_linked_to_a_libcuda_that_is_not_the_drivers(wrong: tuple[facts.Library, ...]) -> None:
    for options in (AS_ROOT, AS_USER):
        assert plan(NOT_LINKED, machine(*wrong, *toolkit()), options=options) is None
        right = plan(NOT_LINKED, machine(*wrong, *driver(folder="/opt/driver"), *toolkit()), options=options)
        assert {t for p, t in placed(right).items() if "libcuda.so" in p} == {"/opt/driver/libcuda.so.1"}


def test_without_a_running_driver_no_libcuda_is_right() -> None:
    stopped = facts.KernelDriver(False, None, None, False, False, (), (), ())
    assert plan(NOT_LINKED, machine(*driver(), *toolkit(), kernel_driver=stopped), options=AS_USER) is None


def test_wsl_has_one_libcuda_and_no_module() -> None:
    wsl = facts.Os("Linux", "5.15-microsoft", "x86_64", "ubuntu", "22.04", "Ubuntu", None, True, 1000, "glibc 2.35")
    stopped = facts.KernelDriver(False, None, None, False, False, (), (), ())
    real = library("cuda", "/usr/lib/wsl/lib/libcuda.so.1", version="1")
    found = plan(NOT_LINKED, machine(real, *driver(), *toolkit(), os=wsl, kernel_driver=stopped), options=AS_USER)
    assert placed(found)[f"{PRIVATE}/cuda/lib64/libcuda.so"] == "/usr/lib/wsl/lib/libcuda.so.1"


def test_libraries_of_two_releases_are_never_mixed() -> None:
    """The toolkit is 13 and lacks nvrtc; torch's wheels are 12 and whole."""
    thirteen = tuple(lib for lib in toolkit("/usr/local/cuda-13.0", "13") if lib.name != "nvrtc")
    host = machine(*driver(), *thirteen, *wheels("12"))
    for options in (AS_ROOT, AS_USER):
        targets = placed(plan(NO_TOOLKIT, host, options=options))
        assert {target for target in targets.values() if "libcuda.so" not in target} == {
            lib.path for lib in wheels("12")
        }


def test_of_two_whole_releases_torchs_own_is_taken() -> None:
    host = machine(*driver(), *toolkit("/usr/local/cuda-13.0", "13"), *wheels("12"))
    assert links.toolkit_source(host) is not None and links.toolkit_source(host).major == "12"  # type: ignore[union-attr]


def test_half_a_toolkit_is_no_repair() -> None:
    partial = tuple(lib for lib in toolkit() if lib.name == "cudart")
    assert plan(NO_TOOLKIT, machine(*driver(), *partial), options=AS_ROOT) is None
    assert plan(NOT_LINKED, machine(*driver(), *partial), options=AS_ROOT) is not None  # libcuda alone can be linked


def test_findings_with_one_answer_share_a_plan() -> None:
    found = plans([NOT_LINKED, NO_TOOLKIT], machine(*driver(), *toolkit()), options=AS_USER)
    assert [plan.findings for plan in found] == [(NOT_LINKED.id, NO_TOOLKIT.id)]


@pytest.mark.parametrize(
    "chain, change",
    [
        (("/l/libcuda.so.1", "/l/libcuda.so.470"), "/l/libcuda.so.1"),
        (("/l/libcuda.so", "/l/libcuda.so.1", "/l/libcuda.so.470"), "/l/libcuda.so.1"),
        (("/l/libcuda.so.1", "/etc/alternatives/glx--libcuda", "/l/nvidia/libcuda.so.1"), "/l/nvidia/libcuda.so.1"),
        (("/l/libcuda.so.1", "/etc/alternatives/glx--libcuda", "/l/libcuda.so.470"), "/etc/alternatives/glx--libcuda"),
        (("/l/libcuda.so", "/l/libcuda.so.1", "/l/libcuda.so"), "/l/libcuda.so.1"),
        (("/l/libcuda.so", "/l/libcuda.so"), "/l/libcuda.so"),
        (("/l/libcuda.so.1",), "/l/libcuda.so.1"),
        (("/l/libcuda.so.470",), None),
    ],
)
def test_the_link_that_goes_wrong_is_the_one_that_changes(chain: tuple[str, ...], change: str | None) -> None:
    assert chains.culprit(chain) == change


def test_a_broken_chain_is_mended_in_place_by_root() -> None:
    wrong = Chains(((f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.470"),))
    host = machine(library("cuda", f"{LIB}/libcuda.so.{MODULE}"), *toolkit())
    found = plan(finding("libcuda-link-broken", wrong), host, options=AS_ROOT)
    assert placed(found) == {f"{LIB}/libcuda.so.1": f"{LIB}/libcuda.so.{MODULE}"}


def test_a_broken_chain_is_gone_round_by_a_user() -> None:
    wrong = Chains(((f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.470"),))
    broken = facts.Loader(("/opt/mine",), (LIB,), "/etc/ld.so.cache", (), None, {"libcuda.so.1": None})
    host = machine(library("cuda", f"{LIB}/libcuda.so.{MODULE}"), *toolkit(), loader=broken)
    found = plan(finding("libcuda-link-broken", wrong), host, options=AS_USER)
    assert found is not None
    assert found.environment["LD_LIBRARY_PATH"] == f"{PRIVATE}/driver:/opt/mine"
    # Toolkit libraries in LD_LIBRARY_PATH would come before those that torch brings.
    assert [posixpath.basename(p) for p in placed(found) if p.startswith(f"{PRIVATE}/driver/")] == ["libcuda.so.1"]


def test_where_the_drivers_file_is_gone_there_is_no_plan() -> None:
    wrong = Chains(((f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.{MODULE}"),))
    for options in (AS_ROOT, AS_USER):
        assert plan(finding("libcuda-link-broken", wrong), machine(*driver(OTHER)), options=options) is None


def test_a_stale_cache_gets_its_link_before_it_is_rebuilt() -> None:
    host = machine(library("cuda", f"{LIB}/libcuda.so.{MODULE}"))
    found = plan(finding("linker-cache-stale"), host, options=AS_ROOT)
    assert found is not None and [type(action) for action in found.actions] == [PlaceLink, RefreshLinkerCache]
    assert placed(found) == {f"{LIB}/libcuda.so.1": f"{LIB}/libcuda.so.{MODULE}"}


def test_two_versions_side_by_side_are_parted_by_their_links() -> None:
    libraries = [
        library("cuda", f"{LIB}/libcuda.so.1", f"{LIB}/libcuda.so.{OTHER}"),
        library("cuda", f"{LIB}/libcuda.so.{OTHER}"),
        library("cuda", f"{LIB}/libcuda.so.{MODULE}"),
        library("nvidia-ml", f"{LIB}/libnvidia-ml.so.1", f"{LIB}/libnvidia-ml.so.{OTHER}"),
        library("nvidia-ml", f"{LIB}/libnvidia-ml.so.{MODULE}"),
    ]
    found = plan(
        finding("driver-library-mismatch", WrongDriver(Mismatch.TWO_VERSIONS)), machine(*libraries), options=AS_ROOT
    )
    assert placed(found) == {
        f"{LIB}/libcuda.so.1": f"{LIB}/libcuda.so.{MODULE}",
        f"{LIB}/libnvidia-ml.so.1": f"{LIB}/libnvidia-ml.so.{MODULE}",
    }
    upgraded = finding("driver-library-mismatch", WrongDriver(Mismatch.UPGRADED))
    assert plan(upgraded, machine(*driver(OTHER)), options=AS_ROOT) is None


def test_a_stray_folder_leaves_the_path_and_the_others_stay() -> None:
    loader = facts.Loader(("/opt/a", "/old", "/opt/b"), (LIB,), "", (), None, {})
    host = machine(*driver(), *driver(OTHER, folder="/old", found_by="LD_LIBRARY_PATH"), loader=loader)
    found = plan(finding("driver-library-mismatch", WrongDriver(Mismatch.STRAY_FOLDER)), host, options=AS_USER)
    assert found is not None and found.actions == ()
    assert found.environment == {"LD_LIBRARY_PATH": "/opt/a:/opt/b"}
    assert found.commands == ("export LD_LIBRARY_PATH=/opt/a:/opt/b",)


def test_a_newer_compat_folder_is_there_on_purpose() -> None:
    loader = facts.Loader(("/usr/local/cuda/compat",), (LIB,), "", (), None, {})
    host = machine(*driver(OTHER, folder="/usr/local/cuda/compat", found_by="LD_LIBRARY_PATH"), loader=loader)
    assert variables.stray_folders(host) == ()


def test_a_dangling_toolkit_link_and_a_wrong_variable() -> None:
    cuda = facts.CudaInstall(
        "/opt/gone", None, "/usr/local/cuda", False, "/usr/local/cuda-11.7",
        {"/opt/gone": False, "/usr/local/cuda": False},
        {"/usr/local/cuda-12.2": "12.2.0", "/usr/local/cuda-13.0": "13.0.1"}, None,
    )  # fmt: skip
    found = plan(finding("cuda-path-wrong"), machine(cuda=cuda), options=AS_ROOT)
    assert placed(found) == {"/usr/local/cuda": "/usr/local/cuda-12.2"}  # torch here is of CUDA 12
    assert found is not None and found.environment == {"CUDA_PATH": "/usr/local/cuda-12.2"}
    as_user = plan(finding("cuda-path-wrong"), machine(cuda=cuda), options=AS_USER)
    assert as_user is not None and as_user.actions == () and as_user.environment == found.environment


def test_unknown_facts_make_no_plan() -> None:
    nothing = SimpleNamespace(**{name: Unknown("not read") for name in vars(machine())})
    for problem in ("libcuda-not-in-cuda-path", "libcuda-link-broken", "linker-cache-stale", "cuda-path-wrong"):
        assert plan(finding(problem, Chains((("/l/libcuda.so.1",),))), nothing, options=AS_USER) is None


def test_a_stub_that_the_loaders_configuration_brings_is_gone_round() -> None:
    stub = library("cuda", "/usr/local/cuda/lib64/stubs/libcuda.so.1", stub=True)
    loader = facts.Loader((), (LIB,), "/etc/ld.so.cache", (), None, {"libcuda.so.1": stub.path})
    host = machine(stub, *driver(), loader=loader, cpm=facts.Cpm("1.0.11", ()))
    found = plan(finding("libcuda-stub-loaded"), host, options=AS_ROOT)
    assert placed(found)[f"{PRIVATE}/driver/libcuda.so.1"] == f"{LIB}/libcuda.so.1"
    assert found is not None and found.environment == {"LD_LIBRARY_PATH": f"{PRIVATE}/driver"}
