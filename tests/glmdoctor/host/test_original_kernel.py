"""The original code's CPU kernel in copies of quantization.py, and a kernel_file of another processor or compiler."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from glmdoctor.checks import examine
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import GivenKernel, Unknown
from glmdoctor.host.host import Host
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.kernel import given_kernel

CODE = """
import os
default_cpu_kernel_code_path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "quantization_kernels.c")
default_cpu_parallel_kernel_code_path = os.path.join(os.path.dirname(__file__), "quantization_kernels_parallel.c")
class CPUKernel:
    def __init__(self, kernel_file="", source_code=default_cpu_kernel_code_path):
        if (not kernel_file) or (not os.path.exists(kernel_file)):
            print("No compiled kernel found.")
def load_cpu_kernel(**kwargs):
    global cpu_kernels
    cpu_kernels = CPUKernel(**kwargs)
def quantize(model, weight_bit_width, **kwargs):
    load_cpu_kernel(**kwargs)
"""
SOURCES = ("quantization_kernels.c", "quantization_kernels_parallel.c")


def model(tmp_path: Path, code: str = CODE, sources: tuple[str, ...] = SOURCES) -> Path:
    folder = tmp_path / "chatglm-6b-int4"
    folder.mkdir()
    config = {"model_type": "chatglm", "quantization_bit": 4, "inner_hidden_size": 16384, "num_layers": 28}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "quantization.py").write_text(code)
    for name in sources:
        (folder / name).write_text("int x;")
    return folder


def host(folder: Path, tmp_path: Path, programs: str = "gcc") -> Host:
    bin = tmp_path / "bin"
    bin.mkdir(exist_ok=True)
    for name in programs.split():
        (bin / name).write_text("#!/bin/sh\necho 'gcc (GCC) 12.2.0 Free Software Foundation'\n")
        (bin / name).chmod(0o755)
    environ = {"HOME": str(tmp_path / "home"), "PATH": str(bin)}
    return Host(RealIO("/", environ=environ), model=str(folder))


def judged(machine: Host) -> Finding:
    [found] = examine(machine, only=["kernel.original"]).findings
    return found


def cached(tmp_path: Path, name: str = "chatglm-6b-int4") -> Path:
    folder = tmp_path / "home" / ".cache" / "huggingface" / "modules" / "transformers_modules" / name
    folder.mkdir(parents=True)
    (folder / "quantization.py").write_text(CODE)
    return folder


def test_no_kernel_file_is_passed_and_gcc_compiles(tmp_path):
    found = judged(host(model(tmp_path), tmp_path))
    assert found.status is Status.OK and "No compiled kernel found" in str(found.detail)


def test_without_gcc_it_would_have_none(tmp_path):
    found = judged(host(model(tmp_path), tmp_path, programs=""))
    assert (found.problem, found.status) == ("cpu-kernel-not-loaded", Status.WARN) and "gcc" in str(found.detail)
    assert "glmcore runs this checkpoint" in str(found.detail)


@pytest.mark.parametrize("name", ["chatglm-6b-int4", "chatglm_hyphen_6b_hyphen_int4", "chatglm-6b-int4/0d1f"])
def test_the_c_files_did_not_reach_the_modules_cache(tmp_path, name):
    copy = cached(tmp_path, name)
    found = judged(host(model(tmp_path), tmp_path))
    assert found.problem == "cpu-kernel-not-loaded"
    assert found.evidence["missing"] == list(SOURCES) and found.evidence["code"] == str(copy / "quantization.py")


def test_c_text_inside_the_python_file_needs_no_files(tmp_path):
    folder = model(tmp_path, CODE + "default_cpu_kernel_code = 'QlpoOTFBWSZT'\n", sources=())
    assert judged(host(folder, tmp_path)).status is Status.OK


@pytest.mark.parametrize("given", ["kernel_file='/k/quant.so', **kwargs", '**{"kernel_file": "/k/quant.so", **kwargs}'])
def test_a_copy_that_passes_the_kernel_file(tmp_path, given):
    code = CODE.replace("    load_cpu_kernel(**kwargs)\n", f"    load_cpu_kernel({given})\n")
    found = judged(host(model(tmp_path, code), tmp_path, programs=""))
    assert found.status is Status.OK and "/k/quant.so" in str(found.detail)


@pytest.mark.parametrize("code", ["", "def f(:", "from kernel import x", "kernel = '" + "x" * 99 + "'"])
def test_code_without_such_a_kernel(tmp_path, code):
    assert judged(host(model(tmp_path, code), tmp_path)).status is Status.SKIPPED


def built(path: Path, source: str, *flags: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc builds the kernel of this test")
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", *flags, "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def given(path: Path) -> GivenKernel:
    fact = given_kernel(RealIO("/"), str(path))
    assert not isinstance(fact, Unknown) and not fact.ok
    return fact


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction is one of x86")
def test_a_kernel_with_instructions_that_this_processor_lacks(tmp_path):
    path = built(tmp_path / "k.so", 'int glm_abi(void) { __asm__("ud2"); return 1; }')
    fact = given(path)
    assert "instructions that this CPU does not have" in fact.reason and fact.built_by.startswith("GCC: (")


def test_a_kernel_that_another_compilers_runtime_is_missing_for(tmp_path):
    runtime = built(tmp_path / "libomp-of-elsewhere.so", "int omp(void) { return 1; }")
    path = built(tmp_path / "k.so", "int omp(void); int glm_abi(void) { return omp(); }", str(runtime))
    runtime.unlink()
    fact = given(path)
    assert "libomp-of-elsewhere.so" in fact.reason and fact.stage == "load"


def test_a_kernel_of_another_processor(tmp_path):
    path = built(tmp_path / "k.so", "int x;")
    raw = bytearray(path.read_bytes())
    raw[18:20] = (183 if platform.machine() == "x86_64" else 62).to_bytes(2, "little")
    path.write_bytes(raw)
    fact = given(path)
    assert fact.machine not in ("", platform.machine()) and "was built for" in fact.reason


def test_the_original_codes_library_is_no_kernel_of_glmcore(tmp_path):
    fact = given(built(tmp_path / "k.so", "void extract_int4_weight_to_float(void) {}"))
    assert fact.stage == "symbols" and "no function of glmcore's kernel" in fact.reason
