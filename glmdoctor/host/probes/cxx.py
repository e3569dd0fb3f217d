"""The C++ runtime that the examined Python loads, and the versions of it that the packages' libraries ask for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from glmdoctor.host.facts import CxxLibrary, CxxRuntime, Interpreter, Loader, Unknown
from glmdoctor.host.io import IO
from glmdoctor.host.probes.elf_versions import Versions, versions

SONAME = "libstdc++.so.6"
VERSION = re.compile(r"GLIBCXX_\d+(\.\d+)+")
# Folder below site-packages, and the libraries in it that a model's program loads.
LIBRARIES = (
    ("torch/lib", re.compile(r"lib(c10|torch_cpu|torch_python)\.so")),
    ("sentencepiece", re.compile(r"_sentencepiece\..*\.so")),
    ("numpy/_core", re.compile(r"_multiarray_umath\..*\.so")),
    ("numpy/core", re.compile(r"_multiarray_umath\..*\.so")),
    ("google/_upb", re.compile(r"_message\..*\.so")),
)


def cxx_runtime(io: IO, interpreter: Interpreter | Unknown, loader: Loader | Unknown) -> CxxRuntime | Unknown:
    if io.system != "Linux":
        return Unknown("libstdc++.so.6 is a library of Linux")
    if isinstance(interpreter, Unknown):
        return interpreter
    io = io.bound(*interpreter.site_folders, interpreter.prefix)
    needs = {path: _needed(io, path) for path in _libraries(io, interpreter)}
    needs = {path: found for path, found in needs.items() if found}
    if not needs:
        return Unknown("no package of the examined interpreter asks for libstdc++")
    paths = dict.fromkeys(_places(io, interpreter, loader))
    return CxxRuntime(tuple(_described(io, path, found_by) for path, found_by in paths), needs)


def _libraries(io: IO, interpreter: Interpreter) -> Iterator[str]:
    for site in interpreter.site_folders:
        for folder, pattern in LIBRARIES:
            names = io.names(f"{site}/{folder}")
            yield from (f"{site}/{folder}/{name}" for name in names if pattern.fullmatch(name))


def _needed(io: IO, path: str) -> tuple[str, ...]:
    return tuple(sorted({name for name in _versions(io, path).needed if VERSION.fullmatch(name)}, key=number))


def _versions(io: IO, path: str) -> Versions:
    try:
        if not io.is_file(path):
            return Versions((), ())
        with io.open(path) as file:
            return versions(file)
    except OSError:
        return Versions((), ())


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,18}", version))


def _places(io: IO, interpreter: Interpreter, loader: Loader | Unknown) -> Iterator[tuple[str, str]]:
    """(file, how it is found), the first one that is loaded first; conda's Python names its own folder by DT_RPATH."""
    folders = [(f"{interpreter.prefix}/lib", "conda")] if io.is_folder(f"{interpreter.prefix}/conda-meta") else []
    if isinstance(loader, Loader):
        folders += [(folder, "LD_LIBRARY_PATH") for folder in loader.ld_library_path]
        folders += [(folder, "loader") for folder in loader.folders]
    seen: set[str] = set()
    for folder, found_by in folders:
        path = posixpath.join(folder, SONAME)
        if _versions(io, path).defined:  # a 32-bit or foreign one is passed over, as the loader does
            real = io.realpath(path)
            if real not in seen:
                yield path, found_by
            seen.add(real)


def _described(io: IO, path: str, found_by: str) -> CxxLibrary:
    defined = {name for name in _versions(io, path).defined if VERSION.fullmatch(name)}
    return CxxLibrary(path, found_by, tuple(sorted(defined, key=number)))
