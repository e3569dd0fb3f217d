"""The dynamic loader: its folders, its cache, and the file it would take for a plain name. Nothing is opened by it.

The cache is parsed here rather than by ``ldconfig -p``: a fake root has its own, and each process costs milliseconds.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import struct
from collections.abc import Iterable, Iterator

from glmdoctor.host.facts import CacheEntry, Loader, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes import elf

CACHE = "/etc/ld.so.cache"
CONFIG = "/etc/ld.so.conf"
CACHE_LIMIT = 64 << 20
OLD_MAGIC, NEW_MAGIC = b"ld.so-1.7.0", b"glibc-ld.so.cache1.1"
HEADER, ENTRY, OLD_ENTRY = struct.Struct("=20sII20x"), struct.Struct("=iIIIQ"), struct.Struct("=iII")
# The second byte of an entry's flags names the ABI (glibc's sysdeps/generic/ldconfig.h); these are 64-bit.
ABI_64 = {0x01, 0x02, 0x03, 0x04, 0x05, 0x07, 0x0A, 0x0E, 0x0F, 0x10, 0x11, 0x12}
NAMES = ("cuda", "nvidia-ml", "cudart", "nvrtc", "cublasLt", "cublas")
OF_INTEREST = re.compile(rf"lib(?:{'|'.join(NAMES)})(?:-[0-9a-f]{{6,}})?\.so(?:\.[\w.]+)?")
DRIVER_SONAMES = ("libcuda.so.1", "libnvidia-ml.so.1")


def loader(io: IO) -> Loader | Unknown:
    if io.system != "Linux":
        return Unknown(f"ld.so is Linux's loader; this is {io.system}")
    folders = tuple(dict.fromkeys((*_configured(io, CONFIG, set()), *default_folders(io.machine))))
    searched = tuple(part for part in re.split("[:;]", io.env().get("LD_LIBRARY_PATH", "")) if part)
    entries, fault = read_cache(io)
    found = Loader(searched, folders, CACHE, entries, fault)
    names = dict.fromkeys((*DRIVER_SONAMES, *(e.soname for e in entries), *_names_in(io, (*searched, *folders))))
    return Loader(searched, folders, CACHE, entries, fault, {name: resolve_soname(io, found, name) for name in names})


def default_folders(machine: str) -> tuple[str, ...]:
    """The folders that ld.so searches last, Debian's multiarch ones and the 32-bit ones included."""
    triplets = (f"{machine}-linux-gnu", *(("i386-linux-gnu",) if machine == "x86_64" else ()))
    bases = [f"{base}/{triplet}" for triplet in triplets for base in ("/lib", "/usr/lib")]
    return (*bases, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/lib32", "/usr/lib32")


def _configured(io: IO, path: str, seen: set[str]) -> Iterator[str]:
    """Folders of an ld.so.conf in order, `include` patterns followed, each file once."""
    seen.add(path)
    for line in (io.text_or_none(path) or "").splitlines():
        words = line.partition("#")[0].replace(",", " ").split()
        if words[:1] == ["include"]:
            for name in (
                name for word in words[1:] for name in _glob(io, posixpath.join(posixpath.dirname(path), word))
            ):
                yield from _configured(io, name, seen) if name not in seen else ()
        elif words[:1] != ["hwcap"]:
            yield from (word.partition("=")[0].rstrip("/") for word in words if word.startswith("/"))


def _glob(io: IO, pattern: str) -> list[str]:
    """Files that match in the last component (the only place where ld.so.conf has patterns in practice)."""
    folder, name = posixpath.split(pattern)
    return [posixpath.join(folder, found) for found in io.names(folder) if fnmatch.fnmatchcase(found, name)]


def _names_in(io: IO, folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        yield from (name for name in io.names(folder) if OF_INTEREST.fullmatch(name))


def read_cache(io: IO) -> tuple[tuple[CacheEntry, ...], str | None]:
    """The entries of interest of /etc/ld.so.cache in its own order, and what is wrong with the file."""
    try:
        raw = io.read_bytes(CACHE, CACHE_LIMIT)
    except FileNotFoundError:
        return (), "missing"
    except OSError as error:
        return (), f"unreadable: {error.strerror}"
    try:
        parsed = [entry for entry in parse_cache(raw) if OF_INTEREST.fullmatch(entry[0])]
    except ValueError as error:
        return (), f"unreadable: {error}"
    return tuple(CacheEntry(soname, path, bits, io.exists(path)) for soname, path, bits in parsed), None


def parse_cache(raw: bytes) -> Iterator[tuple[str, str, int]]:
    """SONAME, path and ELF class of each entry of a linker cache; ValueError where it is none or is cut."""
    start = _new_format_at(raw)
    if start is None:
        raise ValueError("no linker cache that glibc 2.2 or later wrote")
    if len(raw) < start + HEADER.size:
        raise ValueError("the linker cache is cut short")
    _, count, _ = HEADER.unpack_from(raw, start)
    if start + HEADER.size + count * ENTRY.size > len(raw):
        raise ValueError("the linker cache is cut short")
    for index in range(count):
        flags, key, value, _, _ = ENTRY.unpack_from(raw, start + HEADER.size + index * ENTRY.size)
        abi = flags >> 8 & 0xFF
        yield _string(raw, start + key), _string(raw, start + value), 64 if abi in ABI_64 else 32


def _new_format_at(raw: bytes) -> int | None:
    """Where the new-format part starts: at once, or aligned behind the entries of the old format."""
    if raw.startswith(NEW_MAGIC):
        return 0
    if not raw.startswith(OLD_MAGIC) or len(raw) < 16:
        return None
    (count,) = struct.unpack_from("=I", raw, 12)
    start = (16 + count * OLD_ENTRY.size + 7) // 8 * 8
    return start if raw.startswith(NEW_MAGIC, start) else None


def _string(raw: bytes, at: int) -> str:
    end = raw.find(b"\0", at, at + 4096)
    if at >= len(raw) or end < 0:
        raise ValueError("the linker cache points outside itself")
    return raw[at:end].decode("utf-8", "surrogateescape")


def resolve_soname(io: IO, loader: Loader, soname: str) -> str | None:
    """The path that dlopen(soname) takes: LD_LIBRARY_PATH, then the cache, then the default folders.

    As in ld.so, a file of another ELF class or machine is passed over, while a damaged one stops the search.
    """
    cached = (entry.path for entry in loader.cache if entry.soname == soname)
    places = (
        *(posixpath.join(folder, soname) for folder in loader.ld_library_path),
        *cached,
        *(posixpath.join(folder, soname) for folder in default_folders(io.machine)),
    )
    for path in places:
        header = elf.read(io, path)
        if header is None or header.machine not in (None, io.machine):
            continue
        return path
    return None
