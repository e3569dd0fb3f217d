"""NVIDIA's kernel module as a file: for the running kernel, and for the others of this machine."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator

from glmdoctor.host.facts import ModuleFile
from glmdoctor.host.io import IO

MODULES = "/lib/modules"
DKMS = "/var/lib/dkms"
# Where distributions and NVIDIA's installer put the module, below /lib/modules/<kernel>.
FOLDERS = ("updates/dkms", "updates", "extra", "extra/nvidia", "kernel/drivers/video", "kernel/drivers/video/nvidia")
NAME = re.compile(r"nvidia(?:-current|-tesla(?:-\d+)?|-legacy-\d+xx)?\.ko(?:\.(?:xz|zst|gz))?")
INDEX_LIMIT = 16 << 20  # bytes of modules.dep, which is half a megabyte
SIGNED = b"~Module signature appended~\n"
DKMS_NAME = re.compile(r"nvidia(?:-current|-tesla.*|-legacy.*)?")


def of_kernel(io: IO, kernel: str) -> tuple[ModuleFile, ...]:
    """Each nvidia.ko for ``kernel``, by the index that modprobe uses and in the usual folders."""
    return tuple(described(io, path) for path in dict.fromkeys(_paths(io, kernel)) if io.is_file(path))


def _paths(io: IO, kernel: str) -> Iterator[str]:
    base = f"{MODULES}/{kernel}"
    for folder in FOLDERS:
        yield from (f"{base}/{folder}/{name}" for name in io.names(f"{base}/{folder}") if NAME.fullmatch(name))
    try:
        index = io.read_text(f"{base}/modules.dep", INDEX_LIMIT)
    except OSError:
        return
    for line in index.splitlines():
        path = line.partition(":")[0]
        if "nvidia" in path and NAME.fullmatch(posixpath.basename(path)):
            yield posixpath.join(base, path)


def other_kernels(io: IO, kernel: str) -> tuple[str, ...]:
    """Kernels but ``kernel`` for which an nvidia.ko was installed or built by DKMS."""
    installed = {name for name in io.names(MODULES) if name != kernel and any(map(io.is_file, _paths(io, name)))}
    return tuple(sorted(installed | (set(_built(io)) - {kernel})))


def _built(io: IO) -> Iterator[str]:
    """Kernels for which DKMS keeps a built module: <module>/<version>/<kernel>/<architecture>/module."""
    for version in (f"{DKMS}/{name}/{v}" for name in _of_dkms(io) for v in io.names(f"{DKMS}/{name}")):
        for kernel in io.names(version):
            machines = io.names(f"{version}/{kernel}")
            if any(io.is_folder(f"{version}/{kernel}/{machine}/module") for machine in machines):
                yield kernel


def dkms_versions(io: IO) -> Iterator[str]:
    """Driver versions that DKMS has the sources of."""
    for name in _of_dkms(io):
        yield from (version for version in io.names(f"{DKMS}/{name}") if version[:1].isdigit())


def _of_dkms(io: IO) -> list[str]:
    return [name for name in io.names(DKMS) if DKMS_NAME.fullmatch(name)]


def described(io: IO, path: str) -> ModuleFile:
    """What the module says of itself in its .modinfo section; nothing where it is compressed or damaged."""
    if not path.endswith(".ko"):
        return ModuleFile(path, None, None, None)
    try:
        info, signed = _info(io, path), _is_signed(io, path)
    except OSError:
        return ModuleFile(path, None, None, None)
    return ModuleFile(path, info.get("version"), info.get("vermagic", "").partition(" ")[0] or None, signed)


def _info(io: IO, path: str) -> dict[str, str]:
    from elftools.elf.elffile import ELFFile

    with io.open(path) as file:
        try:
            section = ELFFile(file).get_section_by_name(".modinfo")
            entries = section.data().split(b"\0") if section else []
        except Exception:  # pyelftools raises many kinds on a damaged file; such a module says nothing
            return {}
    pairs = (entry.decode("ascii", "replace").partition("=") for entry in entries)
    return {key: value for key, _, value in pairs}


def _is_signed(io: IO, path: str) -> bool:
    with io.open(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(SIGNED)))
        return file.read() == SIGNED
