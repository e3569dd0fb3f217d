"""The C compilers of this machine, and the kernel's sources compiled by one of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmcore import programs, workers
from glmcore.kernels.failure import KernelError
from glmcore.kernels.threads import usable_cpus

SOURCES = Path(__file__).parent / "cpu"
COMPILERS = ("gcc", "cc", "clang")
FLAGS = ("-std=c11", "-D_DEFAULT_SOURCE", "-O3", "-pipe", "-fPIC", "-fvisibility=hidden",
         "-fno-math-errno", "-fno-trapping-math")  # fmt: skip
OPENMP = "-fopenmp"
# Whose compilation begins before all others', so that no processor is left to wait for it at the end. Of 6.6 s that gcc
# 12 takes for all (AMD Zen 4, AVX-512, 2026-11-28) decode.c takes 3.0: its products are unrolled for each kind of row.
SLOWEST = ("decode", "lanes")
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
    sources = sorted(SOURCES.glob("*.c"), key=lambda path: (path.stem not in SLOWEST, -path.stat().st_size))
    objects = [target.with_name(f"{path.stem}.o") for path in sources]
    steps = _Steps(compiler, (*FLAGS, *options), target.parent)
    logs = workers.each(lambda pair: steps.compile(*pair), list(zip(sources, objects, strict=True)), usable_cpus())
    return "\n".join(filter(None, [*logs, steps.link(objects, target)]))


class _Steps:
    """The compiler's runs for one library, of which none begins once another has failed."""

    def __init__(self, compiler: Compiler, flags: Sequence[str], scratch: Path) -> None:
        self.compiler, self.flags, self.scratch = compiler, flags, scratch
        self.failed = threading.Event()

    def compile(self, source: Path, made: Path) -> str:
        """Returns the compiler's warnings."""
        return "" if self.failed.is_set() else self._run(("-c", str(source)), made)[1]

    def link(self, objects: Sequence[Path], made: Path) -> str:
        """Returns the command, which shows the flags of all, and what it said."""
        command, output = self._run(("-shared", *map(str, objects)), made, "-lm")
        return f"$ {command}\n{output}".strip()

    def _run(self, inputs: Sequence[str], made: Path, *libraries: str) -> tuple[str, str]:
        command = [self.compiler.path, *self.flags, *inputs, "-o", str(made), *libraries]
        code, output = run(command, COMPILE_SECONDS, self.scratch)
        words, shown = output.strip(), " ".join(command)
        if code != 0 or not made.is_file():
            self.failed.set()
            stage = "compiler" if code in NOT_RUN else "compile"
            raise KernelError("kernel-build", _reason(words, code), stage=stage, where=self.compiler.path,
                              hint="see the compiler's output", log=f"$ {shown}\n{words}".strip())  # fmt: skip
        return shown, words


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
