"""Building the kernel: what may go wrong with compilers, caches and given files, each by real programs and files."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glmcore.errors import GlmError
from glmcore.kernels import abi, build, compiler, keep
from glmcore.kernels.build import KernelError, ensure_kernel
from glmcore.kernels.isa import ISAS, cpu_features
from glmcore.kernels.load import Kernel

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is needed")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def best(tmp_path_factory):
    """One library for this machine, and the cache folder that it is in."""
    cache = tmp_path_factory.mktemp("best")
    return ensure_kernel(cache=cache), cache


@pytest.fixture(autouse=True)
def quickly(best, monkeypatch):
    """What a test has compiled is compiled in a hurry, for none asks how fast it is; the best was built before."""
    monkeypatch.setattr(compiler, "FLAGS", tuple("-O1" if flag == "-O3" else flag for flag in compiler.FLAGS))


@pytest.fixture
def only_on_path(tmp_path, monkeypatch):
    """A PATH with nothing but the stand-in programs that a test writes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    # The real gcc's own helpers (as, ld) must stay reachable for stand-ins that hand over to it.
    monkeypatch.setenv("PATH", str(folder))

    def write(name, body):
        path = folder / name
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)

    return write


def c_library(path, source, *flags):
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), *flags], input=source.encode(), check=True
    )
    return path


def test_built_kernel_is_verified_and_found_again_at_once(best):
    library, cache = best
    assert not library.cached and library.path.is_file() and library.max_error < 2e-6
    assert "gcc" in library.compiler and "-O3" in library.log
    started = time.perf_counter()
    again = ensure_kernel(cache=cache)
    assert again.cached and again.path == library.path and again.isa == library.isa
    assert len(library.reading) == len(abi.Reading._fields_) and again.reading == library.reading
    assert time.perf_counter() - started < 0.1  # no child process: those alone take longer on a busy machine


def test_damaged_library_is_rebuilt(best, tmp_path):
    library, cache = best
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    damaged = copy / library.path.relative_to(cache)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    again = ensure_kernel(cache=copy)
    assert not again.cached and again.path == damaged
    assert damaged.stat().st_size > 5000


def test_damaged_stamp_is_no_proof(best, tmp_path):
    library, cache = best
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    stamp = (copy / library.path.relative_to(cache)).with_name(build.STAMP)
    for text in ("", "[]", "{}", '{"sha256": 1}'):
        stamp.write_text(text)
        assert build._cached(stamp.parent) is None


def test_sources_are_compiled_side_by_side_and_only_within_the_cache(only_on_path, tmp_path, monkeypatch):
    """The compiler's own temporary files too; each run notes its begin and end, and where it was told to keep them."""
    monkeypatch.setattr(compiler, "usable_cpus", lambda: 2)
    real, path, notes = shutil.which("gcc", path=os.defpath), os.defpath, tmp_path / "notes"
    only_on_path(
        "gcc",
        f'echo "begin $TMPDIR" >>{notes}; PATH={path} {real} "$@"; status=$?; echo end >>{notes}; exit $status\n',
    )
    cache = tmp_path / "cache"
    library = ensure_kernel(isa="plain", cache=cache)
    lines = notes.read_text().splitlines()
    begins = [line.partition(" ")[2] for line in lines if line.startswith("begin")][:-1]  # the last asks the version
    assert len(begins) > 5 and all(Path(folder).is_relative_to(cache) for folder in begins)
    open_runs = [len([line for line in lines[:n] if line != "end"]) - lines[:n].count("end") for n in range(len(lines))]
    assert max(open_runs) == 2
    assert [path.name for path in library.path.parent.iterdir() if path.suffix == ".o"] == []


def test_a_source_that_does_not_compile_stops_the_rest(only_on_path, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "usable_cpus", lambda: 1)
    only_on_path("gcc", f'echo run >>{tmp_path}/runs; echo "error: no" >&2; exit 1\n')
    with pytest.raises(KernelError, match="error: no"):
        ensure_kernel(isa="plain", cache=tmp_path / "cache")
    assert (tmp_path / "runs").read_text().split() == ["run"] * 4  # a header and a source, with OpenMP and without


def test_the_common_header_is_read_once(only_on_path, tmp_path):
    """All that include it are given what the compiler kept of it, and nothing of that stays."""
    real, path, notes = shutil.which("gcc", path=os.defpath), os.defpath, tmp_path / "notes"
    only_on_path("gcc", f'echo "$*" >>{notes}; PATH={path} exec {real} -Winvalid-pch -Werror "$@"\n')
    library = ensure_kernel(isa="plain", cache=tmp_path / "cache")
    runs = notes.read_text().splitlines()
    assert sum("c-header" in run for run in runs) == 1
    included = {Path(run.split(" -c ")[1].split()[0]).name for run in runs if " -include " in run}
    wanted = {path.name for path in compiler.SOURCES.glob("*.c") if '"simd.h"' in path.read_text()}
    assert included | {compiler.SLOWEST} == wanted != set()
    assert {path.name for path in library.path.parent.iterdir()} == {build.LIBRARY, build.STAMP, "lock"}


def test_a_compiler_that_keeps_no_headers_builds(only_on_path, tmp_path):
    real, path = shutil.which("gcc", path=os.defpath), os.defpath
    only_on_path("gcc", f'case "$*" in *c-header*) exit 1;; esac; PATH={path} exec {real} "$@"\n')
    assert ensure_kernel(isa="plain", cache=tmp_path / "cache").openmp


def test_two_processes_build_once(tmp_path):
    script = (
        "import sys; from glmcore.kernels.build import ensure_kernel; "
        "k = ensure_kernel(isa='plain', cache=sys.argv[1]); print(k.cached, k.path)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: subprocess.run(command, cwd=ROOT, capture_output=True, text=True), range(2)))
    assert [run.returncode for run in runs] == [0, 0], runs
    assert sorted(run.stdout.split()[0] for run in runs) == ["False", "True"]
    assert len({run.stdout.split()[1] for run in runs}) == 1


def test_torch_is_not_imported():
    script = "import sys, glmcore.kernels.build; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_no_compiler(only_on_path, tmp_path):
    with pytest.raises(KernelError) as caught:
        ensure_kernel(cache=tmp_path / "cache")
    assert (caught.value.code, caught.value.stage) == ("kernel-build", "compiler")
    assert "gcc" in caught.value.hint


def test_compiler_that_fails_shows_its_words(only_on_path, tmp_path):
    only_on_path("gcc", 'echo "standin.c:1: fatal error: stdint.h: No such file or directory" >&2; exit 1\n')
    with pytest.raises(KernelError) as caught:
        ensure_kernel(cache=tmp_path / "cache")
    assert caught.value.stage == "compile" and "stdint.h" in caught.value.what and "stdint.h" in caught.value.log
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_compiler_that_dies_half_way_leaves_nothing(only_on_path, tmp_path):
    # Writes the beginning of a library where it was told to, then is killed.
    only_on_path("gcc", 'while [ "$1" != -o ]; do shift; done; echo half > "$2"; kill -9 $$\n')
    with pytest.raises(KernelError) as caught:
        ensure_kernel(cache=tmp_path / "cache")
    assert caught.value.stage == "compile"
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_compiler_that_makes_rubbish_is_found_out(only_on_path, tmp_path):
    only_on_path("gcc", 'while [ "$1" != -o ]; do shift; done; echo rubbish > "$2"\n')
    with pytest.raises(KernelError) as caught:
        ensure_kernel(cache=tmp_path / "cache")
    assert caught.value.stage == "load" and "no ELF" in caught.value.what


def test_compiler_without_openmp_gives_one_thread(only_on_path, tmp_path):
    real, path = shutil.which("gcc", path=os.defpath), os.defpath
    only_on_path(
        "gcc",
        f'case " $* " in *" -fopenmp "*) echo "cannot find -lgomp" >&2; exit 1;; esac\nPATH={path} exec {real} "$@"\n',
    )
    library = ensure_kernel(isa="plain", cache=tmp_path / "cache")
    assert library.openmp is False and "cannot find -lgomp" in library.log


def test_second_compiler_steps_in(only_on_path, tmp_path):
    real, path = shutil.which("gcc", path=os.defpath), os.defpath
    only_on_path("gcc", 'echo "gcc: internal compiler error" >&2; exit 4\n')
    only_on_path("clang", f'PATH={path} exec {real} "$@"\n')
    library = ensure_kernel(isa="plain", cache=tmp_path / "cache")
    assert library.compiler.startswith(str(tmp_path / "bin/clang")) and library.openmp
    assert "internal compiler error" in library.log


def test_compiler_that_never_ends_is_given_up_once(only_on_path, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "COMPILE_SECONDS", 0.5)
    monkeypatch.setattr(compiler, "usable_cpus", lambda: 1)
    only_on_path("gcc", f"echo x >> {tmp_path}/calls; PATH={os.defpath} exec sleep 20\n")
    with pytest.raises(KernelError, match="no answer within") as caught:
        ensure_kernel(cache=tmp_path / "cache")
    assert caught.value.stage == "compiler"
    assert (tmp_path / "calls").read_text() == "x\n"


def test_compiler_that_cannot_start(only_on_path, tmp_path):
    only_on_path("gcc", "")
    (tmp_path / "bin/gcc").write_bytes(b"\x7fELF and nothing more")
    with pytest.raises(KernelError, match="Exec format error") as caught:
        ensure_kernel(cache=tmp_path / "cache")
    assert caught.value.stage == "compiler"


@pytest.mark.skipif("avx512f" in cpu_features() or platform.machine() != "x86_64", reason="an x86 CPU without AVX-512")
def test_instructions_that_only_seem_to_be_there_give_way_to_others(tmp_path, monkeypatch):
    """As in virtual machines whose CPU flags promise more than they run."""
    monkeypatch.setattr(build, "usable_isas", lambda: (ISAS["avx512"], ISAS["plain"]))
    library = ensure_kernel(cache=tmp_path)
    assert library.isa == "plain" and "SIGILL" in library.log


def test_asked_for_compiler_or_isa_that_is_not_there(tmp_path):
    with pytest.raises(KernelError, match="not there"):
        ensure_kernel(compiler="no-such-cc", cache=tmp_path)
    with pytest.raises(GlmError, match="mmx"):
        ensure_kernel(isa="mmx", cache=tmp_path)


def test_other_compiler_means_another_build(only_on_path, tmp_path):
    only_on_path("gcc", "exit 1\n")
    first = compiler.find_compilers()
    only_on_path("gcc", "exit 12\n")
    assert build._key(first, ()) != build._key(compiler.find_compilers(), ())


def test_unwritable_cache_gives_way_to_a_private_folder(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(keep.tempfile, "gettempdir", lambda: str(temporary))
    blocked = tmp_path / "file"
    blocked.write_text("a file in place of the folder")  # works as root too, unlike taking permissions away
    made = keep.writable(tuple(keep.folders(blocked, temporary=True)))
    assert made.parent == temporary and made.stat().st_mode & 0o077 == 0
    made.chmod(0o777)
    with pytest.raises(KernelError, match="no folder") as caught:
        keep.writable(tuple(keep.folders(blocked, temporary=True)))
    assert str(blocked) in caught.value.where and "others could" in caught.value.where


@pytest.fixture(params=["full", "read-only"])
def no_room(request, tmp_path):
    """A cache folder that takes nothing, and what to put before a command for it to be so: a namespace of its own."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting a small file system takes root and unshare")
    cache = tmp_path / "cache"
    cache.mkdir()
    options = {"full": "size=16k", "read-only": "ro"}[request.param]
    inside = f'mount -t tmpfs -o {options} none "{cache}" && exec "$@"'
    before = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "sh"]
    tried = subprocess.run([*before, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"nothing can be mounted here: {tried.stderr.strip()}")
    return cache, before


def built_without_room(no_room, tmp_path, temporary):
    cache, before = no_room
    others = tmp_path / "tmp"
    others.mkdir()
    script = (
        "import sys; from glmcore.kernels.build import KernelError, ensure_kernel\n"
        f"try: print(ensure_kernel(isa='plain', cache=sys.argv[1], temporary={temporary}).path)\n"
        "except KernelError as error: print(error.stage, error)"
    )
    done = subprocess.run([*before, sys.executable, "-c", script, str(cache)], cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, "TMPDIR": str(others)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, others


def test_without_room_nothing_is_built_elsewhere_where_that_is_forbidden(no_room, tmp_path):
    done, others = built_without_room(no_room, tmp_path, temporary=False)
    stage, said = done.stdout.strip().split(" ", 1)
    assert stage == "cache" and str(no_room[0]) in said and "XDG_CACHE_HOME" in said
    assert not list(others.iterdir()) and done.stderr == ""


def test_without_room_a_private_temporary_folder_serves_and_it_is_said(no_room, tmp_path):
    done, others = built_without_room(no_room, tmp_path, temporary=True)
    assert Path(done.stdout.strip()).is_relative_to(others)
    notices = [line for line in done.stderr.splitlines() if str(no_room[0]) in line]
    assert len(notices) == 1 and str(others) in notices[0]


def test_given_file_is_verified_and_remembered(best, tmp_path):
    library, _ = best
    given = tmp_path / "ready.so"
    shutil.copy(library.path, given)
    first = ensure_kernel(given, cache=tmp_path / "cache")
    assert (first.path, first.isa, first.cached) == (given, library.isa, False)
    assert ensure_kernel(given, cache=tmp_path / "cache").cached
    given.write_bytes(given.read_bytes() + b"\0")
    assert not ensure_kernel(given, cache=tmp_path / "cache").cached


def refused(path, tmp_path):
    with pytest.raises(KernelError) as caught:
        ensure_kernel(path, cache=tmp_path / "cache")
    assert caught.value.code == "kernel-file" and caught.value.where == str(path)
    assert "\n" not in caught.value.line()
    return caught.value


def test_given_file_that_is_missing_empty_or_text(tmp_path):
    assert "no such file" in refused(tmp_path / "missing.so", tmp_path).what
    assert "no such file" in refused(tmp_path, tmp_path).what
    (tmp_path / "empty.so").touch()
    assert "empty" in refused(tmp_path / "empty.so", tmp_path).what
    (tmp_path / "text.so").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "no ELF" in refused(tmp_path / "text.so", tmp_path).what


def test_given_file_of_another_machine(best, tmp_path):
    data = bytearray(best[0].path.read_bytes())
    data[18:20] = (243).to_bytes(2, "little")
    (tmp_path / "riscv.so").write_bytes(data)
    assert "riscv64" in refused(tmp_path / "riscv.so", tmp_path).what


def test_given_file_of_the_original_code(tmp_path):
    original = c_library(tmp_path / "original.so", "void extract_int4_weight_to_float(void) {}")
    error = refused(original, tmp_path)
    assert error.stage == "symbols" and "glm_abi" in error.what


def test_given_file_of_another_interface(tmp_path):
    other = c_library(tmp_path / "other.so", "int glm_abi(void) { return 99; }")
    assert "99" in refused(other, tmp_path).what


def test_given_file_with_instructions_that_the_cpu_lacks(tmp_path):
    bad = c_library(tmp_path / "ud2.so", "int glm_abi(void) { __builtin_trap(); }")
    error = refused(bad, tmp_path)
    assert error.stage == "crash" and ("SIGILL" in error.what or "SIGTRAP" in error.what)


def test_given_file_that_crashes(tmp_path):
    assert (
        "SIGSEGV"
        in refused(c_library(tmp_path / "segv.so", "int glm_abi(void) { return *(volatile int *)8; }"), tmp_path).what
    )


def test_given_file_that_computes_wrongly(tmp_path):
    sizes = ", ".join(str(ctypes.sizeof(structure)) for structure in abi.STRUCTURES)
    source = """
    int glm_abi(void) { return VERSION; }
    int glm_precision(int bits, int exact, long m) { return 16; }
    const char *glm_isa(void) { return "wrong"; }
    int glm_openmp(void) { return 0; }
    void glm_linear16(void) {}
    void glm_read(void) {}
    void glm_read_by(void) {}
    void glm_reading(void) {}
    void glm_step(void) {}
    void glm_step_bytes(void) {}
    long glm_size_of(int number) { return (long[]){SIZES}[number]; }
    int glm_linear(int bits, int exact, const void *w, const float *s, const float *b, const float *x, float *y,
                   long m, long n, long k, int t) { for (long i = 0; i < m * n; i++) y[i] = 0; return 0; }
    """
    error = refused(c_library(tmp_path / "wrong.so", source, f"-DSIZES={sizes}", f"-DVERSION={abi.VERSION}"), tmp_path)
    assert error.stage == "verify" and "off by" in error.what


def changed_sources(tmp_path, monkeypatch, file, before, after):
    """The kernel's sources with one passage changed, which the next build takes."""
    shutil.copytree(compiler.SOURCES, tmp_path / "cpu")
    text = (tmp_path / "cpu" / file).read_text()
    assert text.count(before) == 1
    (tmp_path / "cpu" / file).write_text(text.replace(before, after))
    for module in (compiler, build):
        monkeypatch.setattr(module, "SOURCES", tmp_path / "cpu")


@pytest.mark.parametrize(
    "file, before, after, what",
    [
        ("attention.c", "[of->row] - p * PART", "[of->row] - p * PART - (of->row > 1)", "cache 32 is off"),
        ("attention16.c", "widen_brains(value + k", "widen_brains(key + k", "cache 17 is off"),
        ("attention.c", "all.sum[q] * by + next.sum[q] * own;", "all.sum[q] + next.sum[q] * own;", "is off"),
        ("step.c", "rows - first, packed, y + first * w.n", "rows - first, packed, y", "is off"),
        ("step.c", "largest < INFINITE ? GLM_OK : GLM_NOT_FINITE", "GLM_OK", "NaN within a step"),
    ],
    ids=[
        "a key unseen",
        "keys for values in bfloat16",
        "parts of many keys",
        "a prompt beside answers",
        "a NaN unreported",
    ],
)
def test_a_wrong_step_is_refused_like_a_wrong_product(tmp_path, monkeypatch, file, before, after, what):
    """The products are all right; what puts them together is not."""
    changed_sources(tmp_path, monkeypatch, file, before, after)
    with pytest.raises(KernelError, match=what) as caught:
        ensure_kernel(isa="plain", compiler="gcc", cache=tmp_path / "cache")
    assert (caught.value.code, caught.value.stage) == ("kernel-build", "verify")
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_structures_of_other_sizes_are_refused_before_they_are_used(best, tmp_path, monkeypatch):
    members = "parts, gate, precision;"
    changed_sources(tmp_path, monkeypatch, "step.h", f"int64_t {members}", f"int32_t {members}")
    with pytest.raises(KernelError, match=r"its Model takes \d+ bytes, glmcore's takes \d+") as caught:
        ensure_kernel(isa="plain", compiler="gcc", cache=tmp_path / "cache")
    assert caught.value.stage == "symbols"
    monkeypatch.setattr(abi, "STRUCTURES", (abi.Norm, *abi.STRUCTURES[1:]))
    with pytest.raises(KernelError, match="its Norm takes"):  # where it is loaded too
        Kernel(best[0])
