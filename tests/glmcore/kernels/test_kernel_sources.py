"""The C sources themselves: other machines' instruction sets by emulation, and sanitizers."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from glmcore.kernels.compiler import FLAGS, SOURCES
from glmcore.kernels.isa import ISAS, cpu_features, usable_isas

HERE = Path(__file__).parent
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
ARCHER = sorted(Path("/usr/lib").glob("llvm-*/lib/libarcher.so"))
X86 = {"avx2", "fma", "f16c"} <= cpu_features()
BUILD_FLAGS = [flag for flag in FLAGS if flag not in ("-O3", "-fvisibility=hidden")]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is needed")


def in_one_piece(target):
    """All sources as one translation unit: SIMDe's and the compiler's own headers take longer than the code."""
    sources = [*sorted(SOURCES.glob("*.c")), HERE / "kernel_check.c"]
    target.write_text("".join(f'#include "{source}"\n' for source in sources))
    return target


def compile_check(target, compiler, *flags):
    whole = in_one_piece(target.with_suffix(".c"))
    command = [compiler, *BUILD_FLAGS, "-fopenmp", "-Wall", "-Wextra", "-Werror", "-Wno-psabi",
               f"-I{SOURCES}", f"-I{HERE}", *flags, str(whole), "-o", str(target), "-lm"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def run(*command, **environment):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "WARNING" not in done.stderr, done.stderr[-3000:]
    return done.stdout


def test_no_byte_is_read_or_written_out_of_bounds(tmp_path):
    """Not optimised, so that every access is there to be seen; gcc takes a third of the time for it."""
    isa = usable_isas()[0].name
    compile_check(tmp_path / "check", "gcc", *ISAS[isa].flags, "-O0", "-g", "-fsanitize=address,undefined",
                  "-fno-sanitize-recover=all")  # fmt: skip
    assert run(tmp_path / "check") == f"{isa}: 0 failures\n"


@pytest.mark.skipif(
    not Path("/usr/include/simde/x86/avx512.h").is_file(), reason="SIMDe is not installed (libsimde-dev)"
)
@pytest.mark.skipif(not X86, reason="emulated on top of AVX2")
@pytest.mark.parametrize("isa", ["avx512bf16", "avxvnni", "avx512"])
def test_x86_instruction_sets_by_emulation(isa, tmp_path):
    names = [flag for flag in ISAS[isa].flags if flag.startswith("-D")]
    compile_check(tmp_path / "check", "gcc", *names, "-DGLM_EMULATED", "-mavx2", "-mfma", "-mf16c", "-O1", "-w",
                  "-Wno-error")  # fmt: skip
    assert run(tmp_path / "check") == f"{isa}: 0 failures\n"


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason=f"{CROSS} and {EMULATOR} are needed")
@pytest.mark.parametrize("isa", ["neon-i8mm", "neon-dotprod"])
def test_neon_by_emulation(isa, tmp_path):
    compile_check(tmp_path / "check", CROSS, *ISAS[isa].flags, "-O2", "-static")
    assert run(EMULATOR, "-cpu", "max", tmp_path / "check") == f"{isa}: 0 failures\n"


@pytest.mark.skipif(not ARCHER, reason="libarcher (LLVM's OpenMP) is needed: ThreadSanitizer cannot see gcc's barriers")
def test_threads_do_not_race(tmp_path):
    isa = usable_isas()[0]
    flags = [*BUILD_FLAGS, "-fopenmp", "-O1", "-g", "-fsanitize=thread", f"-I{SOURCES}", *isa.flags]
    whole, compiled = in_one_piece(tmp_path / "check.c"), tmp_path / "check.o"
    subprocess.run(["gcc", *flags, "-c", str(whole), "-o", str(compiled)], check=True)
    # gcc's OpenMP calls, answered by LLVM's runtime.
    subprocess.run(["gcc", "-fsanitize=thread", str(compiled), "-o", str(tmp_path / "check"),
                    f"-L{ARCHER[0].parent}", "-lomp", "-lm"], check=True)  # fmt: skip
    common = {"LD_LIBRARY_PATH": str(ARCHER[0].parent), "TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    assert "0 failures" in run(tmp_path / "check", OMP_TOOL_LIBRARIES=str(ARCHER[0]), **common)


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is needed")
def test_clang_agrees(tmp_path):
    # What clang could not unroll or turn into vector code is no defect.
    compile_check(tmp_path / "check", "clang", *usable_isas()[0].flags, "-O2", "-Wno-pass-failed")
    assert "0 failures" in run(tmp_path / "check")


@pytest.mark.skipif(not X86, reason="an x86 compiler is needed")
@pytest.mark.parametrize("isa", ["avx512vnni", "avxvnni"])
def test_prefill_keeps_its_sums_in_registers(isa, tmp_path):
    """Spilled sums are three times slower: no stack access may stand between the innermost loop's products."""
    compiled = subprocess.run(["gcc", *FLAGS, *ISAS[isa].flags, "-S", str(SOURCES / "prefill.c"), "-o", "-"],
                              capture_output=True, text=True)  # fmt: skip
    if compiled.returncode:
        pytest.skip(f"this gcc does not know {isa}")
    lines = compiled.stdout.splitlines()
    dots = [number for number, line in enumerate(lines) if "vpdpbusd" in line]
    assert len(dots) >= 20
    loops = [lines[a:b] for a, b in itertools.pairwise(dots) if b - a < 8]
    assert not [line for loop in loops for line in loop if "(%rsp)" in line and "mm" in line]
