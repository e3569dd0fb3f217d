"""cpm_kernels' own search for the CUDA libraries, replayed without importing it (its import raises on many machines).

The search is the same in every release from 1.0.3 to 1.0.11 (``cpm_kernels/library/base.py``): on Linux the plain name
in ``$CUDA_PATH/lib64``, then in /usr/local/cuda/lib64, then ``ctypes.util.find_library``; on Windows the first DLL of
PATH by the prefix, and nvcuda.dll by name. The releases differ in what happens when a symbol is missing.
"""

from __future__ import annotations

import contextlib
import posixpath
import struct
from collections.abc import Iterator

from glmdoctor.host.facts import Cpm, CpmHit, Interpreter, Library, Loader, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes import elf
from glmdoctor.host.probes.libraries import describe
from glmdoctor.host.probes.linker import resolve_soname

LIBRARIES = ("nvrtc", "cuda", "cudart", "cublasLt")
DEFAULT = "/usr/local/cuda"
# Every fatbin of a release holds the same architectures; this is the smallest.
FATBIN = "cpm_kernels/kernels/cuda/transpose.fatbin"
FAT_MAGIC, PTX, MACHINE_CODE = 0xBA55ED50, 1, 2


def cpm(io: IO, interpreter: Interpreter | Unknown, loader: Loader | Unknown) -> Cpm | Unknown:
    version = interpreter.packages.get("cpm-kernels") if isinstance(interpreter, Interpreter) else None
    if io.system == "Windows":
        hits, files = tuple(_windows(io, name) for name in LIBRARIES), _path_files(io)
        return Cpm(version, hits, files, _architectures(io, interpreter))
    if io.system != "Linux":
        return Unknown(f"cpm_kernels knows Linux and Windows only; this is {io.system}")
    if isinstance(loader, Unknown):
        return loader
    if isinstance(interpreter, Interpreter):
        io = io.bound(*interpreter.site_folders)
    hits = tuple(_linux(io, loader, name) for name in LIBRARIES)
    return Cpm(version, hits, architectures=_architectures(io, interpreter))


def _architectures(io: IO, interpreter: Interpreter | Unknown) -> tuple[int, ...]:
    for site in interpreter.site_folders if isinstance(interpreter, Interpreter) else ():
        with contextlib.suppress(OSError):
            return architectures(io.read_bytes(f"{site}/{FATBIN}"))
    return ()


def architectures(data: bytes) -> tuple[int, ...]:
    """Of the machine code in a fatbin."""
    return tuple(sorted({target for kind, target in entries(data) if kind == MACHINE_CODE}))


def entries(data: bytes) -> Iterator[tuple[int, int]]:
    """A fatbin's kinds of code and their targets: a header, then entries, each with a header of its own."""
    at = 0
    with contextlib.suppress(struct.error):
        while struct.unpack_from("<I", data, at) == (FAT_MAGIC,):
            header, size = struct.unpack_from("<HQ", data, at + 6)
            entry, at = at + header, at + header + size
            while entry < at:
                kind, header, size, target = struct.unpack_from("<H2xIQ12xI", data, entry)
                yield kind, target
                entry += max(header + size, 1)


def _linux(io: IO, loader: Loader, name: str) -> CpmHit:
    tried = []
    cuda_path = io.env().get("CUDA_PATH")
    for rule, folder in (("CUDA_PATH/lib64", cuda_path), (f"{DEFAULT}/lib64", DEFAULT)):
        if folder is None:
            continue
        path = posixpath.join(folder, "lib64", f"lib{name}.so")
        tried.append(path)
        if io.exists(path):
            return _hit(io, name, path, rule, tried)
    soname = find_library(io, loader, name, tried)
    if soname is None:
        return CpmHit(name, None, "none", tuple(tried), None)
    taken = resolve_soname(io, loader, soname)
    if taken is None:  # found by name, and dlopen of that name fails
        return CpmHit(name, soname, "find_library", tuple(tried), loads=False)
    return _hit(io, name, taken, "find_library", tried)


def _hit(io: IO, name: str, path: str, rule: str, tried: list[str]) -> CpmHit:
    library = describe(io, path)
    return CpmHit(name, path, rule, tuple(tried), loads=_loads(io, library), stub=library.stub, real=library.real)


def _loads(io: IO, library: Library) -> bool:
    return library.fault is None and library.machine == io.machine and not library.stub


def find_library(io: IO, loader: Loader, name: str, tried: list[str]) -> str | None:
    """The SONAME that ``ctypes.util.find_library`` gives: by the linker cache, else by gcc's search, else by ld's.

    The last two run ``gcc -l`` and ``ld -l`` and read the SONAME with objdump; here the plain name is looked for in
    their standard folders. Folders that only a gcc of another prefix knows are left out.
    """
    prefix = f"lib{name}."
    tried.append(f"{loader.cache_path}: {prefix}*")
    by_cache = next((e.soname for e in loader.cache if e.soname.startswith(prefix) and e.elf_class == 64), None)
    if by_cache or not io.which("objdump"):
        return by_cache
    searches = []
    if io.which("gcc") or io.which("cc"):
        searches.append(io.env().get("LIBRARY_PATH", "").split(":"))
    if io.which("ld"):
        searches.append(list(loader.ld_library_path))
    return next((s for first in searches if (s := _by_linker(io, [*first, *_link_folders(io)], name, tried))), None)


def _by_linker(io: IO, folders: list[str], name: str, tried: list[str]) -> str | None:
    for folder in folders:
        if not posixpath.isabs(folder):
            continue
        path = posixpath.join(folder, f"lib{name}.so")
        if path not in tried:
            tried.append(path)
        header = elf.read(io, path)
        if header is not None and header.elf_class is not None:
            return header.soname
    return None


def _link_folders(io: IO) -> list[str]:
    """Where gcc -l and ld -l look by themselves."""
    multiarch = [f"{base}/{io.machine}-linux-gnu" for base in ("/usr/lib", "/lib", "/usr/local/lib")]
    return [*multiarch, "/usr/local/lib64", "/lib64", "/usr/lib64", "/usr/local/lib", "/lib", "/usr/lib"]


def _path_files(io: IO) -> tuple[str, ...]:
    return tuple(entry for entry in io.env().get("PATH", "").split(";") if entry and io.is_file(entry))


def _windows(io: IO, name: str) -> CpmHit:
    """The first file of PATH, in listing order, that starts with the prefix; nvcuda.dll by the system's search."""
    if name == "cuda":
        system = io.env().get("SystemRoot", "C:\\Windows") + "\\System32\\nvcuda.dll"
        path = system if io.exists(system) else None
        return CpmHit(name, path, "PATH" if path else "none", (system,), loads=path is not None)
    prefix = f"{name}64_"
    tried = []
    for folder in io.env().get("PATH", "").split(";"):
        tried.append(f"{folder}\\{prefix}*.dll")
        for file in _listing(io, folder):
            if file.startswith(prefix) and file.lower().endswith(".dll"):
                return CpmHit(name, f"{folder}\\{file}", "PATH", tuple(tried), loads=None)
    return CpmHit(name, None, "none", tuple(tried), None)


def _listing(io: IO, folder: str) -> list[str]:
    try:
        return io.listdir(folder)  # unsorted: the first of the listing wins
    except OSError:
        return []
