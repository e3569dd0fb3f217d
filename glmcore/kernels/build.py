"""From C sources to a library that has proved itself: compile, verify in a child, keep.

Free of torch, so that glmdoctor can use it. A library counts only after its self-test passed; the stamp beside it says
so, with the library's hash, and makes the next call a matter of milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from glmcore.errors import GlmError
from glmcore.kernels.isa import ISAS, Isa, cpu_features, usable_isas

SOURCES = Path(__file__).parent / "cpu"
SELFTEST = Path(__file__).parent / "selftest.py"
COMPILERS = ("gcc", "cc", "clang")
FLAGS = ("-std=c11", "-D_DEFAULT_SOURCE", "-O3", "-fPIC", "-shared", "-fvisibility=hidden",
         "-fno-math-errno", "-fno-trapping-math")  # fmt: skip
OPENMP = "-fopenmp"
COMPILE_SECONDS, SELFTEST_SECONDS, LOCK_SECONDS = 120, 30, 300
PROBE_BYTES = 1 << 20
# Exit statuses of a program that could not be started (as shells have them) or did not end (as ``timeout`` has it).
NOT_RUN = NO_END, NOT_STARTED = 124, 127
LIBRARY, STAMP = "glm_kernel.so", "verified.json"


class KernelError(GlmError):
    """No usable kernel. ``stage``: compiler, compile, load, symbols, crash or verify; ``log``: what the tools said."""

    def __init__(self, code: str, what: str, *, stage: str, log: str = "", where: str = "", hint: str = "") -> None:
        super().__init__(code, what, where=where, hint=hint)
        self.stage, self.log = stage, log


@dataclass(frozen=True)
class Compiler:
    """A C compiler on PATH; ``identity`` changes when it is upgraded, and costs no process to find out."""

    path: str
    identity: str

    @property
    def version(self) -> str:
        """The first line of ``--version``, or why there is none."""
        code, output = _run([self.path, "--version"], 20)
        return output.splitlines()[0] if code == 0 and output.strip() else f"no version: {output.strip() or code}"


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


def find_compilers() -> tuple[Compiler, ...]:
    """The C compilers on PATH, each program once, the preferred one first."""
    found: dict[str, Compiler] = {}
    for name in COMPILERS:
        path = shutil.which(name)
        if path is not None:
            found.setdefault(os.path.realpath(path), Compiler(path, _identity(path)))
    return tuple(found.values())


def ensure_kernel(
    kernel_file: str | os.PathLike[str] | None = None, *,
    compiler: str | None = None, isa: str | None = None, cache: str | os.PathLike[str] | None = None,
) -> KernelLibrary:  # fmt: skip
    """The verified library for this machine: ``kernel_file`` if given, else from the cache, else newly built.

    ``compiler`` and ``isa`` narrow the choice; ``cache`` is the folder to keep it in. Raises ``KernelError``.
    """
    folders = tuple(_folders(None if cache is None else Path(cache)))
    if kernel_file is not None:
        return _given(Path(kernel_file), folders)
    compilers, isas = _chosen_compilers(compiler), _chosen_isas(isa)
    key = _key(compilers, isas)
    if _ours(folders[0]) and (cached := _cached(folders[0] / key)) is not None:
        return cached  # also where nothing could be written
    return _build_once(_writable(folders) / key, compilers, isas)


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
        command = [compiler.path, *FLAGS, *([OPENMP] if openmp else []), *isa.flags,
                   *map(str, sorted(SOURCES.glob("*.c"))), "-o", str(target), "-lm"]  # fmt: skip
        code, output = _run(command, COMPILE_SECONDS)
        log = f"$ {' '.join(command)}\n{output.strip()}".strip()
        if code != 0 or not target.is_file():
            stage = "compiler" if code in NOT_RUN else "compile"
            raise KernelError("kernel-build", _compile_reason(output, code), stage=stage, where=compiler.path,
                              hint="see the compiler's output", log=log)  # fmt: skip
        answer = _selftest(target, "kernel-build", log)
        # What failed before this one is the reason for a lesser choice: keep it with the library.
        earlier = "\n".join(failure.log for failure in failures)
        library = KernelLibrary(folder / LIBRARY, str(answer["isa"]), f"{compiler.path}: {compiler.version}", openmp,
                                False, float(str(answer["max_error"])), f"{earlier}\n{log}".strip())  # fmt: skip
        digest = _digest(target)
        os.replace(target, folder / LIBRARY)
    _write_stamp(folder / STAMP, library, digest)
    return library


def _compile_reason(output: str, code: int) -> str:
    """The compiler's first complaint, in its own words."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "cannot" in line.lower()]
    return f"the compiler failed: {(telling or lines or [f'exit status {code}'])[0]}"


def _given(path: Path, folders: Sequence[Path]) -> KernelLibrary:
    """A ready library: verified like one of ours, and remembered by its hash."""
    path = path.expanduser().absolute()
    if not path.is_file():
        raise KernelError("kernel-file", "there is no such file", stage="load", where=str(path))
    try:
        digest = _digest(path)
    except OSError as error:
        raise KernelError("kernel-file", f"cannot be read: {error.strerror}", stage="load", where=str(path)) from error
    name = f"given-{_hash(digest, _digest(SELFTEST), *sorted(cpu_features()))}.json"
    for folder in folders:
        if _ours(folder) and (known := _read_stamp(folder / name, digest, path)) is not None:
            return known
    answer = _selftest(path, "kernel-file", "")
    library = KernelLibrary(path, str(answer["isa"]), "given", bool(answer["openmp"]), False,
                            float(str(answer["max_error"])), "")  # fmt: skip
    with contextlib.suppress(OSError, KernelError):  # not remembering it only costs the next call its milliseconds
        _write_stamp(_writable(folders) / name, library, digest)
    return library


def _selftest(path: Path, code: str, log: str) -> dict[str, object]:
    """What the child says about a library; raises ``KernelError`` unless it passed."""
    status, output = _run([sys.executable or "python3", "-I", "-S", str(SELFTEST), str(path)], SELFTEST_SECONDS)
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
                      log=f"{log}\n{reason}".strip())  # fmt: skip


def _run(command: Sequence[str], seconds: float) -> tuple[int, str]:
    """Exit status and combined output; one that cannot start or does not end failed, with the reason as output."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=seconds, env={**os.environ, "LC_ALL": "C"}, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return NO_END, f"no end after {seconds} s"
    except OSError as error:
        return NOT_STARTED, f"{command[0]}: {error.strerror}"
    return done.returncode, done.stdout.decode(errors="replace")


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
        if saved.pop("sha256") != digest:
            return None
        return KernelLibrary(**{**saved, "path": library, "cached": True})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged or of an older layout: as if it were not there


def _write_stamp(stamp: Path, library: KernelLibrary, digest: str) -> None:
    temporary = stamp.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({**asdict(library), "path": str(library.path), "sha256": digest}))
    os.replace(temporary, stamp)


def _chosen_compilers(name: str | None) -> tuple[Compiler, ...]:
    if name is None:
        return find_compilers()
    path = shutil.which(name)
    if path is None:
        raise KernelError("kernel-build", "the compiler asked for is not there", stage="compiler", where=name)
    return (Compiler(path, _identity(path)),)


def _chosen_isas(name: str | None) -> tuple[Isa, ...]:
    if name is None:
        return usable_isas()
    if name not in ISAS:
        raise GlmError("usage", f"no instruction set {name!r}", hint=f"choose from {', '.join(ISAS)}")
    return (ISAS[name],)


def _key(compilers: Sequence[Compiler], isas: Sequence[Isa]) -> str:
    """Everything that the result depends on, hashed."""
    sources = [_digest(path) for path in sorted([*SOURCES.glob("*.[ch]"), SELFTEST])]
    flags = [*FLAGS, OPENMP, *(flag for isa in isas for flag in (isa.name, *isa.flags))]
    return _hash(*sources, *flags, *(compiler.identity for compiler in compilers), *sorted(cpu_features()))


def _identity(path: str) -> str:
    real = os.path.realpath(path)
    info = os.stat(real)
    return f"{real} {info.st_size} {info.st_mtime_ns}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _folders(asked: Path | None) -> Iterator[Path]:
    """Where kernels may be kept: the folder asked for or the user's cache, then a private one for temporary files."""
    if asked is not None:
        yield asked
    else:
        # Without HOME and a known user there is none: platformdirs raises so from 4.4 on, earlier the path is relative.
        with contextlib.suppress(RuntimeError):
            user = platformdirs.user_cache_path("glmcore")
            if user.is_absolute():
                yield user / "kernels"
    yield Path(tempfile.gettempdir()) / f"glmcore-kernels-{_user()}"


def _user() -> int:
    """This user's number; Windows has none, and gives its files the number 0."""
    return os.getuid() if hasattr(os, "getuid") else 0


def _ours(folder: Path) -> bool:
    """Whether nobody else could have put a library there."""
    try:
        info = folder.stat()
    except OSError:
        return False
    return info.st_uid == _user() and not info.st_mode & stat.S_IWOTH


def _writable(folders: Sequence[Path]) -> Path:
    """The first folder that is ours and takes as much as a library needs."""
    tried: list[str] = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _ours(folder):
                raise PermissionError(0, "others could put a library there")
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(PROBE_BYTES))
            return folder
        except OSError as error:
            tried.append(f"{folder}: {error.strerror}")
    raise KernelError("kernel-build", "no folder to keep the kernel in", stage="compile", where="; ".join(tried),
                      hint="make one of them writable, or free some space")  # fmt: skip
