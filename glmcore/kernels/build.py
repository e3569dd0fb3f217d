"""From C sources to a library that has proved itself: compile, verify in a child, keep.

Free of torch, so that glmdoctor can use it. A library counts only after its self-test passed; the stamp beside it says
so, with the library's hash, and makes the next call a matter of milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from glmcore import programs
from glmcore.errors import GlmError
from glmcore.folders import is_root, who_else
from glmcore.kernels import keep
from glmcore.kernels.compiler import (
    FLAGS,
    OPENMP,
    SOURCES,
    Compiler,
    compile_library,
    find_compilers,
    named_compiler,
    run,
)
from glmcore.kernels.failure import KernelError
from glmcore.kernels.isa import ISAS, Isa, cpu_features, usable_isas
from glmcore.output import replacing

__all__ = ["KernelError", "KernelLibrary", "ensure_kernel"]

SELFTEST = Path(__file__).parent / "selftest.py"
# What a library has to agree with: it is verified anew where one of these changes.
SELFTEST_FILES = (SELFTEST, *(SELFTEST.with_name(name) for name in ("abi.py", "plain_step.py", "reading.py")))
SELFTEST_SECONDS, LOCK_SECONDS = 30, 300
LIBRARY, STAMP = "glm_kernel.so", "verified.json"

log = logging.getLogger("glmcore")


@dataclass(frozen=True)
class KernelLibrary:
    """A verified library. ``max_error``: the largest error of the self-test, relative to the magnitudes summed."""

    path: Path
    isa: str
    compiler: str
    openmp: bool
    cached: bool
    max_error: float
    log: str
    reading: tuple[int, ...]  # how it reads weights the fastest here, as abi.Reading has it
    sha256: str  # of the file that was verified; what is loaded must be that


def ensure_kernel(
    kernel_file: str | os.PathLike[str] | None = None, *,
    compiler: str | None = None, isa: str | None = None, cache: str | os.PathLike[str] | None = None,
    temporary: bool = True,
) -> KernelLibrary:  # fmt: skip
    """The verified library for this machine: ``kernel_file`` if given, else from the cache, else newly built.

    ``compiler`` and ``isa`` narrow the choice; ``cache`` is the folder to keep it in, instead of which a folder for
    temporary files may serve if ``temporary``. Raises ``KernelError``.
    """
    folders = tuple(keep.folders(None if cache is None else Path(cache), temporary))
    if kernel_file is not None:
        return _given(Path(kernel_file), folders)
    compilers, isas = _chosen_compilers(compiler), _chosen_isas(isa)
    key = _key(compilers, isas)
    for folder in folders[:1]:
        if keep.ours(folder) and (cached := _cached(folder / key)) is not None:
            return cached  # also where nothing could be written
    folder = keep.writable(folders)
    if folder != folders[0]:
        log.warning("the CPU kernel is kept in %s: %s: %s", folder, folders[0], keep.why_not(folders[0]))
    return _build_once(folder / key, compilers, isas)


def _build_once(folder: Path, compilers: Sequence[Compiler], isas: Sequence[Isa]) -> KernelLibrary:
    """Build unless another process has done so while we waited for its lock."""
    import filelock  # here, so that finding a library that is there already does not pay for it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock", timeout=LOCK_SECONDS):
            return _cached(folder) or _build(folder, compilers, isas)
    except filelock.Timeout as error:
        raise KernelError(
            "kernel-build", "another process has been building the kernel for too long", stage="compile",
            where=str(folder), hint="end it, or delete that folder",
        ) from error  # fmt: skip
    except OSError as error:
        raise KernelError("kernel-build", f"the kernel could not be kept: {error.strerror}", stage="compile",
                          where=str(error.filename or folder), hint="free some space") from error  # fmt: skip


def _build(folder: Path, compilers: Sequence[Compiler], isas: Sequence[Isa]) -> KernelLibrary:
    """Keep the first that proves itself: OpenMP before one thread, compilers in order, best instruction set first."""
    if not compilers:
        raise KernelError("kernel-build", "no C compiler found", stage="compiler", where="PATH",
                          hint="install gcc, or give a ready kernel_file")  # fmt: skip
    log.warning("building the CPU kernel, once; this takes a few seconds")
    failures: list[KernelError] = []
    for openmp in (True, False):
        for compiler in compilers:
            for isa in isas:
                if any(failure.stage == "compiler" and failure.where == compiler.path for failure in failures):
                    break  # it does not run at all
                try:
                    return _build_one(folder, compiler, isa, openmp, failures)
                except KernelError as error:
                    failures.append(error)
    first = failures[0]
    raise KernelError("kernel-build", first.what, stage=first.stage, where=first.where, hint=first.hint,
                      log="\n".join(failure.log for failure in failures).strip())  # fmt: skip


def _build_one(
    folder: Path, compiler: Compiler, isa: Isa, openmp: bool, failures: Sequence[KernelError]
) -> KernelLibrary:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        target = Path(scratch) / LIBRARY
        words = compile_library(compiler, (*([OPENMP] if openmp else []), *isa.flags), target)
        answer = _selftest(target, "kernel-build", words)
        digest = _digest(target)
        # What failed before this one is the reason for a lesser choice: keep it with the library.
        earlier = "\n".join(failure.log for failure in failures)
        library = KernelLibrary(folder / LIBRARY, str(answer["isa"]), f"{compiler.path}: {compiler.version}", openmp,
                                False, float(str(answer["max_error"])), f"{earlier}\n{words}".strip(),
                                _reading(answer), digest)  # fmt: skip
        os.replace(target, folder / LIBRARY)
    _write_stamp(folder / STAMP, library)
    return library


def _given(path: Path, folders: Sequence[Path]) -> KernelLibrary:
    """A ready library: verified like one of ours, and remembered by its hash."""
    path = path.expanduser().absolute()
    if not path.is_file():
        raise KernelError("kernel-file", "there is no such file", stage="load", where=str(path))
    if is_root() and (doubt := who_else(os.path.realpath(path))):
        raise KernelError("kernel-file", f"root loads no kernel that others could change: {doubt}", stage="load",
                          where=str(path), hint="copy it into a folder of root's")  # fmt: skip
    try:
        digest = _digest(path)
    except OSError as error:
        raise KernelError("kernel-file", f"cannot be read: {error.strerror}", stage="load", where=str(path)) from error
    name = f"given-{_hash(digest, *map(_digest, SELFTEST_FILES), *sorted(cpu_features()))}.json"
    for folder in folders:
        if keep.ours(folder) and (known := _read_stamp(folder / name, digest, path)) is not None:
            return known
    answer = _selftest(path, "kernel-file", "")
    library = KernelLibrary(path, str(answer["isa"]), "given", bool(answer["openmp"]), False,
                            float(str(answer["max_error"])), "", _reading(answer), digest)  # fmt: skip
    with contextlib.suppress(OSError, KernelError):  # not remembering it only costs the next call its milliseconds
        _write_stamp(keep.writable(folders) / name, library)
    return library


def _reading(answer: Mapping[str, object]) -> tuple[int, ...]:
    numbers = answer["reading"]
    return tuple(map(int, numbers)) if isinstance(numbers, list) else ()


def _selftest(path: Path, code: str, words: str) -> dict[str, object]:
    """What the child says about a library; raises ``KernelError`` unless it passed."""
    status, output = run(programs.isolated(programs.own_python(), "-S", str(SELFTEST), str(path)), SELFTEST_SECONDS)
    stage, reason = "crash", f"its self-test ended with status {status}: {output.strip()[-200:]}"
    if status < 0:
        name = signal.Signals(-status).name
        meaning = "it uses instructions that this CPU does not have" if name == "SIGILL" else "its self-test crashed"
        reason = f"{meaning} ({name})"
    elif status == 0:
        answer: dict[str, object] = json.loads(output.splitlines()[-1])
        if "stage" not in answer:
            return answer
        stage, reason = str(answer["stage"]), str(answer["reason"])
    hint = "leave kernel_file away to have one built" if code == "kernel-file" else ""
    raise KernelError(code, f"the kernel cannot be used: {reason}", stage=stage, where=str(path), hint=hint,
                      log=f"{words}\n{reason}".strip())  # fmt: skip


def _cached(folder: Path) -> KernelLibrary | None:
    """The verified library of a folder, unless library or stamp are missing or damaged."""
    library = folder / LIBRARY
    try:
        return _read_stamp(folder / STAMP, _digest(library), library)
    except OSError:
        return None


def _read_stamp(stamp: Path, digest: str, library: Path) -> KernelLibrary | None:
    try:
        saved = json.loads(stamp.read_text())
        if saved["sha256"] != digest:
            return None
        return KernelLibrary(**{**saved, "path": library, "cached": True, "reading": tuple(saved["reading"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged or of an older layout: as if it were not there


def _write_stamp(stamp: Path, library: KernelLibrary) -> None:
    with replacing(stamp) as file:
        file.write(json.dumps({**asdict(library), "path": str(library.path)}).encode())


def _chosen_compilers(name: str | None) -> tuple[Compiler, ...]:
    if name is None:
        return find_compilers()
    return (named_compiler(name),)


def _chosen_isas(name: str | None) -> tuple[Isa, ...]:
    if name is None:
        return usable_isas()
    if name not in ISAS:
        raise GlmError("usage", f"no instruction set {name!r}", hint=f"choose from {', '.join(ISAS)}")
    return (ISAS[name],)


def _key(compilers: Sequence[Compiler], isas: Sequence[Isa]) -> str:
    """Everything that the result depends on, hashed."""
    sources = [_digest(path) for path in sorted([*SOURCES.glob("*.[ch]"), *SELFTEST_FILES])]
    flags = [*FLAGS, OPENMP, *(flag for isa in isas for flag in (isa.name, *isa.flags))]
    return _hash(*sources, *flags, *(compiler.identity for compiler in compilers), *sorted(cpu_features()))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
