"""The machine itself: memory, disk, processor, the platform."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped, unknown
from glmdoctor.checks.causes import LITTLE_MEMORY
from glmdoctor.findings import Finding, Status
from glmdoctor.messages import text

PLATFORM = text("Operating system")
MEMORY = text("Memory")
DISK = text("Disk space for caches")
CACHE = text("Cache folder")
CPU = text("Processor")
COMMIT = text("Page file")
SHARED = text("Shared memory")

GIB = 2**30
# What glmdoctor, torch and the demo model need side by side; below it even importing torch swaps.
LEAST_MEMORY = 1 * GIB
# The DLLs of torch for CUDA alone, which are committed when they are loaded.
LEAST_COMMIT = 2 * GIB
# Room for the compiled kernel, the modules cache and temporary files of an installation.
LEAST_DISK = 512 * 2**20
# A compiled kernel and the objects it is linked from.
LEAST_KEPT = 2**20
SHARED_OF_DOCKER = 64 * 2**20
LEAST_SHARED = 4 * 2**20


def memory(host: Machine) -> Iterator[Finding]:
    """Enough to run anything at all; what a model needs is judged by its own check."""
    fact = known(host.memory)
    evidence = {"usable": fact.usable, "total": fact.total, "limit": fact.limit, "swap_free": fact.swap_free}
    values = {"usable": gib(fact.usable), "total": gib(fact.total)}
    if fact.usable >= LEAST_MEMORY:
        yield ok(MEMORY, text("{usable} of {total} are free.", **values), **evidence)
        return
    yield bad(
        Status.FAIL,
        "ram-oom",
        text("Too little memory"),
        text(
            "{usable} of {total} can be used here, but {needed} are needed{limit}.",
            limit=limited(fact.limit),
            needed=gib(LEAST_MEMORY),
            **values,
        ),
        needed=LEAST_MEMORY,
        **evidence,
    )


def commit(host: Machine) -> Iterator[Finding]:
    """Windows refuses memory beyond its commit limit (RAM and page file), even where RAM is free."""
    os, fact, checkpoint = known(host.os), known(host.memory), maybe(host.checkpoint)
    if os.system != "Windows":
        yield skipped(COMMIT, text("Only Windows has such a limit for all programs together."))
        return
    if fact.commit_free is None:
        yield unknown(COMMIT, text("Windows did not tell it."))
        return
    needed = LEAST_COMMIT + (checkpoint.weight_bytes if checkpoint else 0)
    values = {"free": gib(fact.commit_free), "needed": gib(needed)}
    if fact.commit_free >= needed:
        yield ok(COMMIT, text("{free} can still be committed.", **values), free=fact.commit_free)
        return
    yield bad(
        Status.FAIL if checkpoint else Status.WARN,
        "windows-pagefile-too-small",
        text("The page file is too small"),
        text("{free} can still be committed, {needed} are needed: error 1455. Enlarge the page file.", **values),
        free=fact.commit_free,
        needed=needed,
    )


def limited(limit: int | None) -> object:
    return text(" (this process is limited to {limit})", limit=gib(limit)) if limit is not None else ""


def gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def disk(host: Machine) -> Iterator[Finding]:
    fact = known(host.disk_cache)
    values = {"path": fact.path, "free": gib(fact.free)}
    if not fact.total:
        yield skipped(DISK, text("{path} lies where no files can be kept.", path=fact.path))
        return
    if fact.free >= LEAST_DISK:
        yield ok(DISK, text("{free} are free at {path}.", **values), free=fact.free, path=fact.path)
        return
    yield bad(
        Status.FAIL,
        "disk-full",
        text("Disk almost full"),
        text("Only {free} are free at {path}.", **values),
        free=fact.free,
        total=fact.total,
        path=fact.path,
    )


def cache(host: Machine) -> Iterator[Finding]:
    """Writable is what takes a kernel: a user who may write to a full disk keeps nothing there."""
    fact = known(host.disk_cache)
    if fact.writable and fact.free >= LEAST_KEPT:
        yield ok(CACHE, text("{path} can be written.", path=fact.path), path=fact.path)
        return
    yield bad(
        Status.WARN,
        "hf-cache-not-writable",
        text("Cache folder not writable"),
        text("{path} lies on a full disk; kernels and downloads are not kept.", path=fact.path)
        if fact.writable
        else text("{path} cannot be written by this user; kernels and downloads are not kept.", path=fact.path),
        path=fact.path,
        free=fact.free,
    )


def shared_memory(host: Machine) -> Iterator[Finding]:
    """What a container gets is 64 MiB: enough for one card, too little for NCCL between several."""
    fact, os, nvml = known(host.shared_memory), maybe(host.os), maybe(host.nvml)
    evidence = {"total": fact.total, "free": fact.free, "container": os.container if os else None}
    values = {"path": fact.path, "free": f"{fact.free >> 20} MiB", "total": f"{fact.total >> 20} MiB"}
    cards = len(nvml.gpus) if nvml else 0
    if not (os and os.container):
        yield skipped(SHARED, text("Only a container's is small."))
    elif fact.free < LEAST_SHARED or (cards > 1 and fact.total <= SHARED_OF_DOCKER):
        yield bad(
            Status.WARN,
            "docker-shm-too-small",
            text("The container's shared memory is small"),
            text(
                "{path} has {free} of {total} free: NCCL between {cards} cards and the workers of a DataLoader need "
                "more. Start the container with --shm-size=8g or --ipc=host.",
                cards=cards,
                **values,
            )
            if cards > 1
            else text(
                "{path} has {free} of {total} free: NCCL and the workers of a DataLoader need more. "
                "Start the container with --shm-size=8g or --ipc=host.",
                **values,
            ),
            **evidence,
        )
    else:
        yield ok(SHARED, text("{free} of {total} are free at {path}.", **values), **evidence)


def cpu(host: Machine) -> Iterator[Finding]:
    fact, os = known(host.cpu), maybe(host.os)
    vectors = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_int8", "asimd", "sve") if name in fact.features]
    if os and os.machine in ("x86_64", "AMD64") and fact.features and "avx2" not in fact.features:
        yield bad(
            Status.WARN,
            "cpu-no-avx2",
            text("The processor has no AVX2"),
            text(
                "{model} offers no AVX2: programs built for it, as many wheels of llama.cpp, end with "
                "'Illegal instruction'. glmcore's own kernel is built for this processor.",
                model=fact.model or "?",
            ),
            model=fact.model,
            logical=fact.logical,
            usable=fact.usable,
            vectors=vectors,
        )
        return
    yield ok(
        CPU,
        text(
            "{model}, {usable} cores usable, {vectors}.",
            model=fact.model or "?",
            usable=f"{fact.usable:g}",
            vectors=" ".join(vectors) or text("no vector extensions known to the kernel"),
        ),
        logical=fact.logical,
        usable=fact.usable,
        vectors=vectors,
    )


def platform(host: Machine) -> Iterator[Finding]:
    os, interpreter = known(host.os), maybe(host.interpreter)
    cpm = interpreter.packages.get("cpm-kernels") if interpreter else None
    if os.system == "Darwin" and cpm:
        yield bad(
            Status.WARN,
            "cpm-platform-import",
            text("cpm_kernels does not know this platform"),
            text(
                "cpm_kernels {version} raises on macOS when it is imported; glmcore does not import it.",
                version=cpm,
            ),
            version=cpm,
        )
        return
    hits = maybe(host.cpm)
    if os.system == "Windows" and cpm and hits and not any(hit.path for hit in hits.hits if hit.library == "cuda"):
        yield bad(
            Status.WARN,
            "cpm-platform-import",
            text("cpm_kernels cannot be imported without an NVIDIA driver"),
            text(
                "cpm_kernels {version} loads nvcuda.dll when it is imported, and there is none; "
                "glmcore does not import it.",
                version=cpm,
            ),
            version=cpm,
        )
        return
    where = os.container or ("WSL" if os.wsl else None)
    yield ok(
        PLATFORM,
        text("{name} ({machine}) in {where}.", name=os.pretty_name, machine=os.machine, where=where)
        if where
        else text("{name} ({machine}).", name=os.pretty_name, machine=os.machine),
        libc=os.libc,
    )


CHECKS = (
    Check("system.platform", PLATFORM, platform, problems=("cpm-platform-import",), needs=("os",)),
    Check("system.cpu", CPU, cpu, problems=("cpu-no-avx2",), needs=("cpu",)),
    Check("system.memory", MEMORY, memory, problems=("ram-oom",), needs=("memory",)),
    Check(
        "system.commit",
        COMMIT,
        commit,
        problems=("windows-pagefile-too-small",),
        needs=("os", "memory"),
        explained_by=LITTLE_MEMORY,
    ),
    Check(
        "system.shared-memory", SHARED, shared_memory, problems=("docker-shm-too-small",), needs=("shared_memory", "os")
    ),
    Check("system.disk", DISK, disk, problems=("disk-full",), needs=("disk_cache",)),
    Check(
        "system.cache",
        CACHE,
        cache,
        problems=("hf-cache-not-writable",),
        needs=("disk_cache",),
        explained_by=("disk-full",),
    ),
)
