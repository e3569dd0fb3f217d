"""The C compilers of PATH."""

from __future__ import annotations

import re
import shlex

from glmdoctor.host.facts import Compiler, Toolchain
from glmdoctor.host.io import IO

COMMANDS = ("gcc", "cc", "clang")
TIME_LIMIT = 10.0  # seconds
FAMILIES = {"Apple clang": "apple-clang", "clang version": "clang", "Free Software Foundation": "gcc"}


def toolchain(io: IO) -> Toolchain:
    """gcc, cc and clang as the kernel build tries them, then $CC. A fake root has no compilers of its own.

    Commands are asked for their version until one answers; a clang that is not needed would cost a third of a second.
    """
    io = io.running()
    chosen = io.env().get("CC") or None
    found: list[Compiler] = []
    seen: set[str] = set()
    for command in (*COMMANDS, *_first_word(chosen)):
        path = io.which(command)
        if path is None or io.realpath(path) in seen:
            continue
        seen.add(io.realpath(path))
        compiler = Compiler(command, path, "", "") if found else _asked(io, command, path)
        found += [compiler] if compiler else []
    return Toolchain(tuple(found), chosen)


def _first_word(command: str | None) -> list[str]:
    """$CC may hold options; a value that no shell would take names no compiler."""
    try:
        return shlex.split(command or "")[:1]
    except ValueError:
        return []


def _asked(io: IO, command: str, path: str) -> Compiler | None:
    """None for a command that gives no version: macOS's gcc without Xcode, a package manager's broken link."""
    done = io.run([path, "--version"], TIME_LIMIT)
    version = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", done.out) if done.code == 0 else None
    family = next((family for sign, family in FAMILIES.items() if sign in done.out), "")
    if version is None:
        return None
    told = io.run([path, "-dumpmachine"], TIME_LIMIT)
    target = told.out.strip() if told.code == 0 else ""
    target = target if re.fullmatch(r"[\w.-]{3,60}", target) else ""
    return Compiler(command, path, family, version.group(1), target, _native(io, path) if "clang" in family else None)


def _native(io: IO, path: str) -> bool | None:
    """From an empty program, of which nothing is written; None where the compiler fails for another reason."""
    done = io.run([path, "-march=native", "-fsyntax-only", "-x", "c", "-"], TIME_LIMIT)
    return True if done.code == 0 else False if "march" in done.err else None
