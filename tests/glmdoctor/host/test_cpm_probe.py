"""cpm_kernels' search, against its own base.py run in a child process of the same environment."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from glmdoctor.host.facts import Cpm, CpmHit, Interpreter, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.cpm import architectures, cpm
from glmdoctor.host.recorded import RecordedIO

# base.py alone: the package's own __init__ imports torch.
RUN_BASE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("base", sys.argv[1])
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)
print(json.dumps({name: base.unix_find_lib(name) for name in ("nvrtc", "cuda", "cudart", "cublasLt")}))
"""


def base_file() -> Path:
    try:
        return Path(str(importlib.metadata.distribution("cpm_kernels").locate_file("cpm_kernels/library/base.py")))
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("cpm_kernels is the reference here")


def real_search(environ: dict[str, str]) -> dict[str, str | None]:
    command = [sys.executable, "-c", RUN_BASE, str(base_file())]
    return json.loads(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)


def replay(environ: dict[str, str]) -> dict[str, CpmHit]:
    found = Host(RealIO("/", environ=environ)).cpm
    assert isinstance(found, Cpm)
    return {hit.library: hit for hit in found.hits}


def environment(case: str, folder: Path, shared_object) -> dict[str, str]:
    """Variables and files of one case; nothing outside ``folder`` is touched."""
    environ = {**os.environ, "LC_ALL": "C"}
    for name in ("CUDA_PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH"):
        environ.pop(name, None)
    lib64 = folder / "lib64"
    lib64.mkdir()
    if case == "private":
        environ["CUDA_PATH"] = str(folder)
        for name in ("cuda", "nvrtc", "cublasLt"):
            shutil.copy(shared_object(f"lib{name}.so.1"), lib64 / f"lib{name}.so")
    elif case == "dangling":
        environ["CUDA_PATH"] = str(folder)
        (lib64 / "libcuda.so").symlink_to("nowhere")
        (lib64 / "libnvrtc.so").touch()
    elif case == "versioned-only":
        environ["CUDA_PATH"] = str(folder)
        shutil.copy(shared_object("libcuda.so.1"), lib64 / "libcuda.so.1")
    elif case == "relative":
        environ["CUDA_PATH"] = "relative/cuda"
    elif case == "empty":
        environ["CUDA_PATH"] = ""
    elif case == "library-path":
        environ["LIBRARY_PATH"] = str(lib64)
        shutil.copy(shared_object("libcuda.so.1"), lib64 / "libcuda.so")
    elif case == "ld-library-path":
        environ["LD_LIBRARY_PATH"] = str(lib64)
        shutil.copy(shared_object("libcuda.so.1"), lib64 / "libcuda.so")
        shutil.copy(shared_object("libnvrtc.so.12"), lib64 / "libnvrtc.so.12")
    elif case == "no-tools":
        environ["PATH"] = str(folder)
        environ["LIBRARY_PATH"] = str(lib64)
        shutil.copy(shared_object("libcuda.so.1"), lib64 / "libcuda.so")
    return environ


CASES = [
    "none",
    "private",
    "dangling",
    "versioned-only",
    "relative",
    "empty",
    "library-path",
    "ld-library-path",
    "no-tools",
]


@pytest.mark.parametrize("case", CASES)
def test_the_replay_gives_what_base_py_gives(tmp_path, shared_object, case):
    environ = environment(case, tmp_path, shared_object)
    real, replayed = real_search(environ), replay(environ)
    for name, path in real.items():
        hit = replayed[name]
        if path is None:
            assert (hit.path, hit.rule) == (None, "none"), name
        elif "/" in path:
            assert hit.path == path, name
        else:  # a plain SONAME: the loader's turn; the replay names the file that dlopen takes, or the name if none
            assert hit.rule == "find_library", name
            assert hit.path is not None and os.path.basename(hit.path) == path, name


def test_a_file_that_exists_but_does_not_load(tmp_path, shared_object):
    environ = environment("dangling", tmp_path, shared_object)
    hits = replay(environ)
    assert (hits["nvrtc"].path, hits["nvrtc"].loads) == (str(tmp_path / "lib64/libnvrtc.so"), False)
    with pytest.raises(OSError):
        __import__("ctypes").CDLL(hits["nvrtc"].path)


def test_the_winning_file_by_rule(root, shared_object):
    root.file("/opt/a/lib64/libcuda.so", shared_object("libcuda.so.1", bits=32))
    root.file("/usr/local/cuda/lib64/libcudart.so", shared_object("libcudart.so.12"))
    root.file("/usr/local/cuda/lib64/stubs/libcuda.so", shared_object("libcuda.so.1"))
    root.file("/usr/lib/libcuda.so.1", shared_object("libcuda.so.1"))
    hits = {hit.library: hit for hit in Host(root.io(CUDA_PATH="/opt/a")).cpm.hits}
    assert (hits["cuda"].path, hits["cuda"].rule, hits["cuda"].loads) == (
        "/opt/a/lib64/libcuda.so",
        "CUDA_PATH/lib64",
        False,
    )
    assert (hits["cudart"].rule, hits["cudart"].loads) == ("/usr/local/cuda/lib64", True)
    assert hits["cudart"].tried == ("/opt/a/lib64/libcudart.so", "/usr/local/cuda/lib64/libcudart.so")
    assert (hits["nvrtc"].path, hits["nvrtc"].rule) == (None, "none")


def test_a_stub_is_a_hit_that_is_of_no_use(root, shared_object):
    root.file("/usr/local/cuda/lib64/stubs/libcuda.so", shared_object("libcuda.so.1"))
    root.link("/usr/local/cuda/lib64/libcuda.so", "stubs/libcuda.so")
    hit = next(hit for hit in Host(root.io()).cpm.hits if hit.library == "cuda")
    assert (hit.stub, hit.loads) == (True, False)


def test_windows_takes_the_first_dll_of_the_path():
    io = RecordedIO(
        {
            "C:\\PhysX\\cudart64_65.dll": b"",
            "C:\\CUDA\\bin\\cudart64_12.dll": b"",
            "C:\\CUDA\\bin\\cublasLt64_12.DLL": b"",
            "C:\\Windows\\System32\\nvcuda.dll": b"",
        },
        {"PATH": "C:\\none;C:\\PhysX;C:\\CUDA\\bin", "SystemRoot": "C:\\Windows"},
        system="Windows",
        machine="AMD64",
    )
    found = cpm(io, Unknown(""), Unknown(""))
    assert isinstance(found, Cpm)
    hits = {hit.library: hit for hit in found.hits}
    assert hits["cudart"].path == "C:\\PhysX\\cudart64_65.dll"
    assert hits["cublasLt"].path == "C:\\CUDA\\bin\\cublasLt64_12.DLL"
    assert hits["cuda"].path == "C:\\Windows\\System32\\nvcuda.dll"
    assert (hits["nvrtc"].path, hits["nvrtc"].rule) == (None, "none")


def test_macos_is_not_known_to_cpm_kernels():
    found = cpm(RecordedIO({}, system="Darwin"), Unknown(""), Unknown(""))
    assert isinstance(found, Unknown) and "Darwin" in found.reason


def fatbin(*targets: int, kind: int = 2) -> bytes:
    entries = b"".join(struct.pack("<HHIQ12xI32x", kind, 0x101, 64, 40, target) + bytes(40) for target in targets)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def test_the_architectures_of_a_fatbin():
    whole = fatbin(61, 70) + fatbin(86)
    assert architectures(whole) == (61, 70, 86)
    assert architectures(fatbin(52, kind=1) + fatbin(61)) == (61,)  # PTX is no machine code
    assert architectures(whole[:160]) == (61, 70) and architectures(whole[:20]) == ()
    assert architectures(b"") == architectures(b"<html>") == ()
    assert architectures(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 60)) == ()


def test_the_fatbin_is_read_where_the_package_lies():
    packages = {"cpm-kernels": "1.0.11"}
    python = Interpreter("/venv/bin/python", "3.11.0", "/venv", "win_amd64", packages, ("C:\\venv\\site",))
    folder = "C:\\venv\\site\\cpm_kernels\\kernels\\cuda"
    io = RecordedIO({f"{folder}\\transpose.fatbin": fatbin(80)}, system="Windows")
    found = cpm(io, python, Unknown("no loader"))
    assert isinstance(found, Cpm) and found.architectures == (80,)
    found = cpm(RecordedIO({}, system="Windows"), python, Unknown("no loader"))
    assert isinstance(found, Cpm) and found.architectures == ()


def test_the_packages_own_file():
    data = (base_file().parents[1] / "kernels" / "cuda" / "transpose.fatbin").read_bytes()
    assert architectures(data) == (61, 62, 70, 72, 75, 80, 86)


def test_files_in_path_on_windows():
    files = {"C:\\ffmpeg\\ffmpeg.exe": "", "C:\\Windows\\System32\\nvcuda.dll": ""}
    environ = {"PATH": "C:\\ffmpeg\\ffmpeg.exe;C:\\Windows\\System32;C:\\gone.exe;;"}
    found = cpm(RecordedIO(files, environ, system="Windows"), Unknown("not asked"), Unknown("no loader"))
    assert isinstance(found, Cpm) and found.path_files == ("C:\\ffmpeg\\ffmpeg.exe",)
