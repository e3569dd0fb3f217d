"""ELF headers of real files, and of forged and cut ones."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmdoctor.host.io import RealIO
from glmdoctor.host.probes import elf

FAULTS = {None, "empty", "not-elf", "truncated", "unreadable"}


def parse(raw: bytes) -> elf.Header:
    return elf.parse(io.BytesIO(raw), len(raw))


def test_a_library_of_this_machine(shared_object):
    raw = shared_object("libcuda.so.1").read_bytes()
    machine = RealIO("/").machine
    assert parse(raw) == elf.Header(None, len(raw), 64, machine, "libcuda.so.1")


def test_a_library_of_a_32_bit_machine(shared_object):
    raw = bytearray(shared_object("libcuda.so.1", bits=32).read_bytes())
    raw[18:20] = (3).to_bytes(2, "little")  # EM_386
    header = parse(bytes(raw))
    assert (header.elf_class, header.machine) == (32, "i686")


def test_another_architecture_is_named(shared_object):
    raw = bytearray(shared_object("libcuda.so.1").read_bytes())
    raw[18:20] = (183).to_bytes(2, "little")
    assert parse(bytes(raw)).machine == "aarch64"


def test_a_library_without_soname(tmp_path, shared_object):
    path = tmp_path / "plain.so"
    subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", "-o", str(path)], check=True)
    header = parse(path.read_bytes())
    assert header.fault is None and header.soname is None


def test_stripped_sections_do_not_matter(tmp_path, shared_object):
    path = tmp_path / "stripped.so"
    shutil.copy(shared_object("libnvrtc.so.12"), path)
    raw = bytearray(path.read_bytes())
    raw[40:48] = bytes(8)  # e_shoff
    raw[60:62] = bytes(2)  # e_shnum
    assert parse(bytes(raw)).soname == "libnvrtc.so.12"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "empty"),
        (b"\x7f", "not-elf"),
        (b"<html>", "not-elf"),
        (b"\x7fELF\x02\x01", "truncated"),
        (b"\x7fELF\x07", "not-elf"),
    ],
)
def test_files_that_are_none(raw, fault):
    assert parse(raw).fault == fault


def test_every_cut_of_a_library_is_told_as_a_fault_or_is_harmless(shared_object):
    """Only the section table at the end can be lost without harm to the loader."""
    raw = shared_object("libcuda.so.1").read_bytes()
    for length in range(0, len(raw), 97):
        header = parse(raw[:length])
        assert header.fault in FAULTS
        if header.fault is None:
            assert header.soname == "libcuda.so.1"
    assert parse(raw[: len(raw) // 2]).fault == "truncated"


@settings(max_examples=200)
@given(data=st.data())
def test_a_forged_header_costs_neither_time_nor_an_exception(shared_object, data):
    raw = bytearray(shared_object("libcuda.so.1").read_bytes())
    for at in data.draw(st.lists(st.integers(4, 64 + 11 * 56), max_size=12)):
        raw[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    start = time.perf_counter()
    header = parse(bytes(raw))
    assert header.fault in FAULTS
    assert time.perf_counter() - start < 1
    assert len(header.soname or "") <= elf.MAX_NAME


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic(tail):
    assert parse(elf.MAGIC + tail).fault in FAULTS


def test_paths_that_lead_to_no_file(tmp_path: Path):
    machine = RealIO("/")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert elf.read(machine, str(tmp_path / "dangling")) is None
    assert elf.read(machine, str(tmp_path / "loop")) is None
    assert elf.read(machine, str(tmp_path)) == elf.Header("not-elf")


def test_as_objdump_reads_them():
    """A sample of the system's own libraries."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is the reference here")
    machine = RealIO("/")
    sample = [p for p in sorted(Path(f"/usr/lib/{machine.machine}-linux-gnu").glob("lib*.so.?"))[::40] if p.exists()]
    for path in sample:
        text = subprocess.run(["objdump", "-p", str(path)], capture_output=True, text=True).stdout
        soname = next((line.split()[1] for line in text.splitlines() if "SONAME" in line), None)
        header = elf.read(machine, str(path))
        assert header is not None and (header.fault, header.soname) == (None, soname), path
