"""Stand-ins for libstdc++ and for libraries built against it: real ELF files with real symbol versions."""

from __future__ import annotations

import subprocess
from pathlib import Path

SONAME = "libstdc++.so.6"


def runtime(path: Path, *versions: str) -> None:
    """A libstdc++.so.6 that defines ``versions`` ("3.4.29"), each with one function."""
    names = [f"glm_{version.replace('.', '_')}" for version in versions]
    script = path.with_suffix(".map")
    path.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("".join(f"GLIBCXX_{v} {{ {n}; }};\n" for v, n in zip(versions, names, strict=True)))
    source = "".join(f"void {name}(void) {{}}\n" for name in names)
    link(path, source, f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={script}")
    script.unlink()


def consumer(path: Path, version: str, built_with: Path) -> None:
    """A library that needs GLIBCXX_``version``, linked with a runtime that has it."""
    name = f"glm_{version.replace('.', '_')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    link(path, f"void {name}(void);\nvoid use(void) {{ {name}(); }}\n", str(built_with))


def link(path: Path, source: str, *more: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-x", "none", *more, "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)
