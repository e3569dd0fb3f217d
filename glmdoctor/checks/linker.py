"""The dynamic loader's cache beside the files, and CUDA's runtime libraries as programs find them."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import NO_DRIVER, STALE_CACHE
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import Library, Loader
from glmdoctor.messages import text
from glmdoctor.readings.driver import driver_libraries, folder, loaded_as, name
from glmdoctor.readings.severity import grade
from glmdoctor.readings.versions import numbers

CACHE = text("Linker cache")
RUNTIME = text("CUDA runtime of torch")
CUBLASLT = text("cuBLASLt")
DRIVER_NAMES = ("libcuda.so.1", "libnvidia-ml.so.1")


def cache(host: Machine) -> Iterator[Finding]:
    loader = known(host.loader)
    os = maybe(host.os)
    if os and os.libc.startswith("musl"):
        yield skipped(CACHE, text("musl has no linker cache."))
        return
    gone, unlisted = _gone(host, loader), _unlisted(host, loader)
    if not gone and not unlisted:
        yield ok(
            CACHE, text("{count} CUDA entries, each with its file.", count=len(loader.cache)), path=loader.cache_path
        )
        return
    driver = [path for path in gone if name_of(path).startswith(("libcuda.so", "libnvidia-ml.so"))]
    found = [loaded_as(host, soname) for soname in DRIVER_NAMES]
    yield bad(
        # A toolkit library that went away hurts only who asks for it; the driver's are needed by everybody, and only
        # while no default folder and no LD_LIBRARY_PATH leads to them.
        grade(host) if (driver or unlisted) and not all(lib and lib.fault is None for lib in found) else Status.WARN,
        "linker-cache-stale",
        text("The linker cache does not match the files"),
        text("It names {path}, which is gone.", path=gone[0])
        if gone
        else text("{path} lies in a loader folder, but the cache does not name it.", path=unlisted[0]),
        gone=gone,
        unlisted=unlisted,
        cache=loader.cache_path,
        cache_fault=loader.cache_fault,
    )


def name_of(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _gone(host: Machine, loader: Loader) -> list[str]:
    """Entries without a file. A link that is still there but dangles is the link's fault, not the cache's."""
    links = {lib.path for lib in maybe(host.libraries) or () if lib.is_link}
    return [entry.path for entry in loader.cache if not entry.exists and entry.path not in links]


def _unlisted(host: Machine, loader: Loader) -> list[str]:
    """The driver's libraries that lie in a loader folder under their SONAME and are not in the cache."""
    listed = {entry.soname for entry in loader.cache}
    return [
        lib.path
        for lib in driver_libraries(host)
        if name(lib) in DRIVER_NAMES and name(lib) not in listed and folder(lib) in loader.folders
    ]


def runtime(host: Machine) -> Iterator[Finding]:
    """A CUDA build of torch cannot even be imported without libcudart."""
    torch, loader = known(host.torch), known(host.loader)
    built = numbers(torch.cuda or "")
    if not built:
        yield skipped(RUNTIME, text("torch here is no CUDA build."))
        return
    soname = f"libcudart.so.{built[0]}" if built[0] >= 12 else "libcudart.so.11.0"
    bundled = [file for file in torch.bundled if "cudart" in name_of(file)]
    system = loader.resolved.get(soname)
    if bundled or system:
        yield ok(
            RUNTIME, text("{file} is there.", file=bundled[0] if bundled else system), bundled=bundled, system=system
        )
    elif not torch.bundled:
        yield skipped(
            RUNTIME, text("This torch does not bring its own CUDA libraries; its package manager places them.")
        )
    else:
        yield bad(
            Status.FAIL,
            "cuda-runtime-so-missing",
            text("torch's CUDA runtime is missing"),
            text(
                "torch {version} is built for CUDA {cuda}, but {soname} is neither beside it nor known to the loader.",
                version=torch.version,
                cuda=torch.cuda,
                soname=soname,
            ),
            soname=soname,
            bundled=list(torch.bundled),
        )


def cublaslt(host: Machine) -> Iterator[Finding]:
    libraries = [lib for lib in known(host.libraries) if lib.name == "cublasLt" and lib.fault is None]
    strays = [lib for lib in libraries if "LD_LIBRARY_PATH" in lib.found_by and "wheel" not in lib.found_by]
    clash = next(((s, w) for s in strays for w in libraries if "wheel" in w.found_by and _older(s, w)), None)
    if clash is None:
        yield ok(CUBLASLT, text("No copy in LD_LIBRARY_PATH hides that of torch."), strays=[lib.path for lib in strays])
        return
    stray, wheel = clash
    yield bad(
        # Wheels since torch 2 load their own copy first; older ones fail at import.
        Status.WARN,
        "cublaslt-symbol-conflict",
        text("An older cuBLASLt hides that of torch"),
        text(
            "{stray} ({old}) in LD_LIBRARY_PATH comes before {wheel} ({new}).",
            stray=stray.path,
            old=stray.version,
            wheel=wheel.path,
            new=wheel.version,
        ),
        stray=stray.path,
        stray_version=stray.version,
        wheel=wheel.path,
        wheel_version=wheel.version,
    )


def _older(stray: Library, wheel: Library) -> bool:
    """Does the stray answer to the wheel's SONAME with an older version? Only full versions can be compared."""
    if stray.soname != wheel.soname or not stray.version or not wheel.version:
        return False
    old, new = numbers(stray.version), numbers(wheel.version)
    return min(len(old), len(new)) > 1 and old < new


CHECKS = (
    Check(
        "cuda.linker-cache",
        CACHE,
        cache,
        problems=("linker-cache-stale",),
        needs=("loader",),
        explained_by=NO_DRIVER,
    ),
    Check(
        "cuda.runtime",
        RUNTIME,
        runtime,
        problems=("cuda-runtime-so-missing",),
        needs=("torch", "loader"),
        explained_by=STALE_CACHE,
    ),
    Check("cuda.cublaslt", CUBLASLT, cublaslt, problems=("cublaslt-symbol-conflict",), needs=("libraries",)),
)
