"""Class, machine and SONAME of an ELF file by its headers; a hostile or cut file gives a fault, never a crash."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from glmdoctor.host.io import IO

MAGIC = b"\x7fELF"
MACHINES = {  # e_machine → platform.machine(), for a little-endian file of the class
    (62, 64): "x86_64",
    (3, 32): "i686",
    (62, 32): "x32",
    (183, 64): "aarch64",
    (40, 32): "armv7l",
    (21, 64): "ppc64le",
    (22, 64): "s390x",
    (243, 64): "riscv64",
    (258, 64): "loongarch64",
}
MIN_HEADER = {32: 52, 64: 64}
# Bounds far above what a linker writes, so that a forged header costs no time or memory.
MAX_SEGMENTS, MAX_TAGS, MAX_NAME = 64, 1024, 256


@dataclass(frozen=True)
class Header:
    """What an ELF file says of itself; with a fault the rest may be None."""

    fault: str | None  # None | "empty" | "not-elf" | "truncated" | "unreadable"
    size: int = 0
    elf_class: int | None = None
    machine: str | None = None
    soname: str | None = None


def read(io: IO, path: str) -> Header | None:
    """The header of the file that ``path`` leads to; None where it leads to no file."""
    try:
        status = io.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return None if error.errno == errno.ELOOP else Header("unreadable")
    if not stat.S_ISREG(status.st_mode):
        return Header("not-elf")
    try:
        with io.open(path) as file:
            return parse(file, status.st_size)
    except OSError:
        return Header("unreadable", status.st_size)


def parse(file: BinaryIO, size: int) -> Header:
    if size == 0:
        return Header("empty")
    ident = file.read(64)
    if not ident.startswith(MAGIC):
        return Header("not-elf", size)
    bits = {1: 32, 2: 64}.get(ident[4] if len(ident) > 4 else 0)
    if bits is None:
        return Header("not-elf", size)
    if len(ident) < MIN_HEADER[bits]:
        return Header("truncated", size, bits)
    return _parse_body(file, size, bits)


def _parse_body(file: BinaryIO, size: int, bits: int) -> Header:
    """By pyelftools' structures alone: its ELFFile reads the section table too, which a forged file makes huge."""
    from elftools.elf.structs import ELFStructs  # 50 ms: only where there is an ELF file to read

    machine = None
    # No 64-bit program gets as far as the body of a 32-bit file, so its damage has no effect.
    cut = "truncated" if bits == 64 else None
    try:
        file.seek(5)
        structs = ELFStructs(little_endian=file.read(1) != b"\x02", elfclass=bits)
        structs.create_basic_structs()
        file.seek(0)
        header = structs.Elf_Ehdr.parse_stream(file)
        machine = _machine(header, bits)
        structs.create_advanced_structs(header["e_type"], header["e_machine"])
        segments = list(_segments(structs, file, header))
        loads = [segment for segment in segments if segment["p_type"] == "PT_LOAD"]
        if not loads or any(segment["p_offset"] + segment["p_filesz"] > size for segment in loads):
            return Header(cut, size, bits, machine)
        return Header(None, size, bits, machine, _soname(structs, file, segments, loads))
    except Exception:  # construct raises many kinds (its own, struct's, KeyError, UnicodeError …) on a forged file
        return Header(cut, size, bits, machine)


def _machine(header: Any, bits: int) -> str:
    from elftools.elf.enums import ENUM_E_MACHINE

    name = header["e_machine"]
    number = ENUM_E_MACHINE.get(name, name)
    return MACHINES.get((number, bits), str(name).removeprefix("EM_").lower())


def _segments(structs: Any, file: BinaryIO, header: Any) -> Iterator[Any]:
    for index in range(min(header["e_phnum"], MAX_SEGMENTS)):
        file.seek(header["e_phoff"] + index * header["e_phentsize"])
        yield structs.Elf_Phdr.parse_stream(file)


def _soname(structs: Any, file: BinaryIO, segments: list[Any], loads: list[Any]) -> str | None:
    """DT_SONAME, read through the program headers as the loader does (sections may be stripped)."""
    dynamic = next((segment for segment in segments if segment["p_type"] == "PT_DYNAMIC"), None)
    if dynamic is None:
        return None
    tags = dict(_tags(structs, file, dynamic))
    table, name = tags.get("DT_STRTAB"), tags.get("DT_SONAME")
    if table is None or name is None:
        return None
    address = table + name
    segment = next((s for s in loads if s["p_vaddr"] <= address < s["p_vaddr"] + s["p_filesz"]), None)
    if segment is None:
        return None
    file.seek(segment["p_offset"] + address - segment["p_vaddr"])
    return file.read(MAX_NAME).partition(b"\0")[0].decode("utf-8", "replace")


def _tags(structs: Any, file: BinaryIO, dynamic: Any) -> Iterator[tuple[Any, int]]:
    file.seek(dynamic["p_offset"])
    for _ in range(min(dynamic["p_filesz"] // structs.Elf_Dyn.sizeof(), MAX_TAGS)):
        tag = structs.Elf_Dyn.parse_stream(file)
        if tag["d_tag"] == "DT_NULL":
            return
        yield tag["d_tag"], tag["d_val"]
