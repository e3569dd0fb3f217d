"""Compilers, and the CPU quantisation kernel: really built and compared by ``glmcore.kernels.build``."""

from __future__ import annotations

import re
import shlex
from concurrent.futures import ThreadPoolExecutor

from glmdoctor.host.facts import Compiler, Toolchain
from glmdoctor.host.io import IO

COMMANDS = ("gcc", "cc", "clang")
TIME_LIMIT = 10.0


def toolchain(io: IO) -> Toolchain:
    """$CC, then gcc, cc and clang of PATH, each asked once for its version. A fake root has no compilers of its own."""
    io = io.running()
    chosen = io.env().get("CC") or None
    commands = dict.fromkeys([*(shlex.split(chosen)[:1] if chosen else []), *COMMANDS])
    paths = {command: path for command in commands if (path := io.which(command))}
    files = dict.fromkeys(io.realpath(path) for path in paths.values())
    with ThreadPoolExecutor(max(1, len(files))) as pool:
        banners = dict(zip(files, pool.map(lambda file: _banner(io, file), files), strict=True))
    found = (_compiler(command, path, banners[io.realpath(path)]) for command, path in paths.items())
    return Toolchain(tuple(compiler for compiler in found if compiler), chosen)


def _banner(io: IO, path: str) -> str:
    done = io.run([path, "--version"], TIME_LIMIT)
    return done.out if done.code == 0 else ""


def _compiler(command: str, path: str, banner: str) -> Compiler | None:
    """None for a command that gives no version: macOS's gcc without Xcode, a broken link of a package manager."""
    version = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", banner)
    if not version:
        return None
    signs = {"Apple clang": "apple-clang", "clang version": "clang"}
    family = next((family for sign, family in signs.items() if sign in banner), "gcc")
    return Compiler(command, path, family, version.group(1))
