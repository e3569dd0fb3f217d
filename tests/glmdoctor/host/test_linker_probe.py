"""ld.so.conf, ld.so.cache and the file that the loader takes, against ldconfig and the loader themselves."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.host.facts import Loader, Unknown
from glmdoctor.host.io import RealIO
from glmdoctor.host.probes import linker
from glmdoctor.host.recorded import RecordedIO

LDCONFIG = shutil.which("ldconfig", path="/usr/sbin:/sbin:" + os.environ.get("PATH", ""))
needs_ldconfig = pytest.mark.skipif(LDCONFIG is None, reason="ldconfig is the reference here")
CUDA = "libcuda.so.1"


def cached(root, *options: str) -> None:
    """Write the cache of a fake root with the real ldconfig (-r makes it work inside)."""
    root.folder("/etc")
    subprocess.run([str(LDCONFIG), "-r", str(root.path), *options], check=True, capture_output=True)


@needs_ldconfig
def test_this_machines_cache_as_ldconfig_prints_it():
    raw = Path(linker.CACHE).read_bytes()
    text = subprocess.run([str(LDCONFIG), "-p"], capture_output=True, text=True, check=True).stdout
    printed = re.findall(r"^\t(\S+) \(([^)]*)\) => (\S+)$", text, re.MULTILINE)
    assert [(soname, path) for soname, path, _ in linker.parse_cache(raw)] == [(s, p) for s, _, p in printed]
    bits = {path: elf_class for _, path, elf_class in linker.parse_cache(raw)}
    assert all(bits[path] == 64 for _, flags, path in printed if "x86-64" in flags)


@needs_ldconfig
@pytest.mark.parametrize("form", ["new", "compat", "old"])
def test_the_forms_of_the_cache(root, shared_object, form):
    root.file("/usr/lib/nvidia/libcuda.so.535.183.01", shared_object(CUDA))
    root.file("/etc/ld.so.conf", "/usr/lib/nvidia\n")
    cached(root, "-c", form)
    entries, fault = linker.read_cache(root.io())
    if form == "old":
        assert fault and "glibc 2.2" in fault
        return
    assert fault is None
    assert [(e.soname, e.path, e.elf_class, e.exists) for e in entries] == [(CUDA, f"/usr/lib/nvidia/{CUDA}", 64, True)]


@needs_ldconfig
def test_an_entry_whose_file_is_gone(root, shared_object):
    root.file("/usr/lib/libcuda.so.535.183.01", shared_object(CUDA))
    cached(root)
    (root.path / "usr/lib/libcuda.so.535.183.01").unlink()
    entries, _ = linker.read_cache(root.io())
    assert [(e.soname, e.exists) for e in entries] == [(CUDA, False)]


def test_a_missing_and_a_damaged_cache(root):
    assert linker.read_cache(root.io()) == ((), "missing")
    root.file("/etc/ld.so.cache", b"not a cache")
    assert linker.read_cache(root.io())[1].startswith("unreadable: ")


@settings(max_examples=150)
@given(st.data())
def test_a_forged_cache_gives_entries_or_a_fault(data):
    raw = bytearray(Path(linker.CACHE).read_bytes()[:4000] if os.path.exists(linker.CACHE) else b"")
    raw = raw or bytearray(linker.NEW_MAGIC + bytes(200))
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    _, fault = linker.read_cache(RecordedIO({linker.CACHE: bytes(raw)}))
    assert fault is None or fault.startswith("unreadable: ")


def test_configured_folders_in_order_with_includes(root):
    root.file("/etc/ld.so.conf", "# comment\ninclude ld.so.conf.d/*.conf\n/opt/last\n")
    root.file("/etc/ld.so.conf.d/b.conf", "/opt/b # second\n")
    root.file("/etc/ld.so.conf.d/a.conf", "/opt/a:libc4\n/opt/a2\n".replace(":libc4", ""))
    root.file("/etc/ld.so.conf.d/ignored.txt", "/opt/no\n")
    loader = linker.loader(root.io())
    assert isinstance(loader, Loader)
    assert loader.folders[:4] == ("/opt/a", "/opt/a2", "/opt/b", "/opt/last")
    assert "/usr/lib" in loader.folders


def test_configurations_that_include_each_other_end(root):
    root.file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n/opt/x\n")
    for name in "abcdefgh":
        root.file(f"/etc/ld.so.conf.d/{name}.conf", "include /etc/ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf\n")
    loader = linker.loader(root.io())
    assert isinstance(loader, Loader) and loader.folders[0] == "/opt/x"


def resolved(root, **environ: str) -> str | None:
    loader = linker.loader(root.io(**environ))
    assert isinstance(loader, Loader)
    return loader.resolved[CUDA]


@needs_ldconfig
def test_the_variable_comes_before_the_cache_and_the_cache_before_the_folders(root, shared_object):
    library = shared_object(CUDA)
    for folder in ("/opt/mine", "/opt/cached", "/usr/lib"):
        root.file(f"{folder}/{CUDA}", library)
    root.file("/etc/ld.so.conf", "/opt/cached\n")
    cached(root)
    assert resolved(root, LD_LIBRARY_PATH="/opt/none:/opt/mine") == f"/opt/mine/{CUDA}"
    assert resolved(root) == f"/opt/cached/{CUDA}"
    (root.path / "etc/ld.so.cache").unlink()
    assert resolved(root) == f"/usr/lib/{CUDA}"


def test_a_library_of_another_class_is_passed_over(root, shared_object):
    root.file(f"/opt/i386/{CUDA}", shared_object(CUDA, bits=32))
    root.file(f"/usr/lib/{CUDA}", shared_object(CUDA))
    assert resolved(root, LD_LIBRARY_PATH="/opt/i386") == f"/usr/lib/{CUDA}"


def test_a_dangling_link_is_passed_over_and_an_empty_file_is_taken(root, shared_object):
    root.link(f"/opt/a/{CUDA}", "libcuda.so.999")
    root.file(f"/opt/b/{CUDA}", b"")
    root.file(f"/usr/lib/{CUDA}", shared_object(CUDA))
    assert resolved(root, LD_LIBRARY_PATH="/opt/a") == f"/usr/lib/{CUDA}"
    assert resolved(root, LD_LIBRARY_PATH="/opt/a:/opt/b") == f"/opt/b/{CUDA}"


def test_nothing_anywhere(root):
    root.folder("/usr/lib")
    assert resolved(root) is None


DLOPEN = """
import ctypes, sys
try:
    ctypes.CDLL(sys.argv[1])
except OSError as error:
    print("error", error)
else:
    print(next(l.split()[-1] for l in open("/proc/self/maps") if sys.argv[1].split(".so")[0] in l))
"""


@pytest.mark.parametrize("case", ["right", "wrong-class-first", "dangling-first", "empty-first"])
def test_the_real_loader_takes_the_same_file(tmp_path, shared_object, case):
    soname = "libnvrtc.so.777"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    shutil.copy(shared_object(soname), second / soname)
    if case == "wrong-class-first":
        shutil.copy(shared_object(soname, bits=32), first / soname)
    elif case == "dangling-first":
        (first / soname).symlink_to("nowhere")
    elif case == "empty-first":
        (first / soname).touch()
    environ = {**os.environ, "LD_LIBRARY_PATH": f"{first}:{second}"}
    real = subprocess.run(
        [sys.executable, "-c", DLOPEN, soname], env=environ, capture_output=True, text=True
    ).stdout.strip()
    found = linker.loader(RealIO("/", environ=environ))
    assert isinstance(found, Loader)
    if real.startswith("error"):
        assert case == "empty-first" and "file too short" in real
        assert found.resolved[soname] == str(first / soname)
    else:
        assert os.path.realpath(found.resolved[soname] or "") == real


def test_other_systems_have_no_such_loader():
    assert isinstance(linker.loader(RecordedIO({}, system="Windows")), Unknown)


def test_a_plain_name_of_this_machine_resolves_as_dlopen_does():
    machine = RealIO("/")
    found = linker.loader(machine)
    assert isinstance(found, Loader)
    path = linker.resolve_soname(machine, found, "libc.so.6")
    assert path is not None and ctypes.CDLL(path)
