"""The C compilers of this machine, and the kernel's sources compiled by one of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from glmcore import programs, workers
from glmcore.kernels.failure import KernelError
from glmcore.kernels.threads import usable_cpus

SOURCES = Path(__file__).parent / "cpu"
COMPILERS = ("gcc", "cc", "clang")
FLAGS = ("-std=c11", "-D_DEFAULT_SOURCE", "-O3", "-pipe", "-fPIC", "-fvisibility=hidden",
         "-fno-math-errno", "-fno-trapping-math")  # fmt: skip
OPENMP = "-fopenmp"
# What most sources begin with. The compiler's own header of vector instructions takes 0.15 s each time it is read (gcc
# 12, AMD Zen 4, 2026-11-28), so it is read once and kept as a precompiled header, which gcc and clang find by its name.
HEADER = "simd.h"
# Whose compilation begins before all others', so that no processor waits for it at the end, or for the header before.
SLOWEST = "lanes.c"
COMPILE_SECONDS = 120
NOT_RUN = programs.NO_END, programs.NOT_STARTED


@dataclass(frozen=True)
class Compiler:
    """A C compiler on PATH; ``identity`` changes when it is upgraded, and costs no process to find out."""

    path: str
    identity: str

    @property
    def version(self) -> str:
        """The first line of ``--version``, or why there is none."""
        code, output = run([self.path, "--version"], 20)
        return output.splitlines()[0] if code == 0 and output.strip() else f"no version: {output.strip() or code}"


def find_compilers() -> tuple[Compiler, ...]:
    """The C compilers on PATH, each program once, the preferred one first."""
    found: dict[str, Compiler] = {}
    for name in COMPILERS:
        path = programs.which(name)
        if path is not None:
            found.setdefault(os.path.realpath(path), Compiler(path, _identity(path)))
    return tuple(found.values())


def named_compiler(name: str) -> Compiler:
    """The compiler that was asked for; raises ``KernelError`` where it is not on PATH."""
    path = programs.which(name)
    if path is None:
        raise KernelError("kernel-build", "the compiler asked for is not there", stage="compiler", where=name)
    return Compiler(path, _identity(path))


def _identity(path: str) -> str:
    real = os.path.realpath(path)
    info = os.stat(real)
    return f"{real} {info.st_size} {info.st_mtime_ns}"


def compile_library(compiler: Compiler, options: Sequence[str], target: Path) -> str:
    """Compile every source by itself, as many at once as there are processors, and link ``target``; returns the log.

    ``target``'s folder takes the objects and what the compiler writes for itself. Raises ``KernelError``.
    """
    sources = sorted(SOURCES.glob("*.c"), key=_rank)
    steps = _Steps(compiler, (*FLAGS, *options), target.parent)
    runs = [steps.precompile, *(partial(steps.compile, path) for path in sources)]
    logs = workers.each(lambda run: run(), runs, usable_cpus())
    return "\n".join(filter(None, [*logs, steps.link(sources, target)]))


def _rank(source: Path) -> tuple[bool, bool, int]:
    """Smaller is earlier: the slowest, what waits for no header, then the longest."""
    return source.name != SLOWEST, _has_header(source), -source.stat().st_size


def _has_header(source: Path) -> bool:
    return f'#include "{HEADER}"' in source.read_text(encoding="utf-8")


class _Steps:
    """The compiler's runs for one library, of which none begins once another has failed."""

    def __init__(self, compiler: Compiler, flags: Sequence[str], scratch: Path) -> None:
        self.compiler, self.flags, self.scratch = compiler, flags, scratch
        self.failed, self.tried = threading.Event(), threading.Event()  # tried: to precompile
        self.precompiled: Path | None = None

    def precompile(self) -> str:
        """Spares the sources the reading of their header; where it cannot be done, each reads it by itself."""
        header = self.scratch / HEADER
        header.write_text(f'#include "{SOURCES / HEADER}"\n', encoding="utf-8")
        made = header.with_name(f"{HEADER}.gch")
        try:
            code, shown, words = self._ran(("-x", "c-header", str(header)), made)
            if code in NOT_RUN:
                raise self._failure(code, shown, words)
            if code == 0:
                self.precompiled = header
            else:
                made.unlink(missing_ok=True)
        finally:
            self.tried.set()
        return ""

    def compile(self, source: Path) -> str:
        """Returns the compiler's warnings. All but the slowest wait for their header."""
        if _has_header(source) and source.name != SLOWEST:
            self.tried.wait()
        if self.failed.is_set():
            return ""
        header = ("-include", str(self.precompiled)) if self.precompiled and _has_header(source) else ()
        return self._run((*header, "-c", str(source)), self._object(source))[1]

    def link(self, sources: Sequence[Path], made: Path) -> str:
        """Returns the command, which shows the flags of all, and what it said."""
        command, output = self._run(("-shared", *(str(self._object(source)) for source in sources)), made, "-lm")
        return f"$ {command}\n{output}".strip()

    def _object(self, source: Path) -> Path:
        return self.scratch / f"{source.stem}.o"

    def _ran(self, inputs: Sequence[str], made: Path, *libraries: str) -> tuple[int, str, str]:
        """Exit status, not 0 where nothing was made, the command, and what it said."""
        command = [self.compiler.path, *self.flags, *inputs, "-o", str(made), *libraries]
        code, output = run(command, COMPILE_SECONDS, self.scratch)
        return code if made.is_file() else code or 1, " ".join(command), output.strip()

    def _run(self, inputs: Sequence[str], made: Path, *libraries: str) -> tuple[str, str]:
        code, shown, words = self._ran(inputs, made, *libraries)
        if code != 0:
            raise self._failure(code, shown, words)
        return shown, words

    def _failure(self, code: int, shown: str, words: str) -> KernelError:
        self.failed.set()
        stage = "compiler" if code in NOT_RUN else "compile"
        return KernelError("kernel-build", _reason(words, code), stage=stage, where=self.compiler.path,
                           hint="see the compiler's output", log=f"$ {shown}\n{words}".strip())  # fmt: skip


def _reason(output: str, code: int) -> str:
    """The compiler's first complaint, in its own words."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "cannot" in line.lower()]
    return f"the compiler failed: {(telling or lines or [f'exit status {code}'])[0]}"


def run(command: Sequence[str], seconds: float, scratch: Path | None = None) -> tuple[int, str]:
    """Exit status and combined output; one that cannot start or does not end failed, with the reason as output.

    ``scratch``: where the program is to keep its temporary files.
    """
    variables = {**os.environ, "LC_ALL": "C"} | ({} if scratch is None else {"TMPDIR": str(scratch)})
    done = programs.run(command, seconds, variables, merged=True)
    return done.code, done.out or done.err
