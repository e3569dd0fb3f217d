"""libcuda and its chain of links: whole, no stub, and found by the loader and by cpm_kernels."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import NO_DRIVER, NO_LIBCUDA
from glmdoctor.findings import Chains, Finding, Status
from glmdoctor.host.facts import CpmHit, Library
from glmdoctor.messages import Text, text
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.driver import driver_libraries, loaded_as, name
from glmdoctor.readings.severity import grade, model

CHAIN = text("Links of libcuda")
STUB = text("Stub of libcuda")
LOAD = text("libcuda.so.1 by its name")
LINK = text("libcuda where cpm_kernels looks")

LINK_BROKEN = "libcuda-link-broken"
FAULTS: dict[str, Text] = {
    "dangling": text("leads to a file that is not there"),
    "loop": text("leads back to itself"),
    "empty": text("is an empty file"),
    "not-elf": text("is no ELF library"),
    "truncated": text("is cut short"),
    "wrong-machine": text("is built for another processor"),
}
# Links in these places are meant to be used; elsewhere a leftover does no harm while libcuda.so.1 works.
NAMED_PLACES = {"LD_LIBRARY_PATH", "CUDA_PATH", "CUDA_HOME", "toolkit"}
NO_CARD = text("There is no NVIDIA card here; models run on the CPU.")


def chain(host: Machine) -> Iterator[Finding]:
    libraries = [lib for lib in known(host.libraries) if lib.name == "cuda"]
    broken = [(lib, fault) for lib in libraries if (fault := _fault(host, lib))]
    if not broken:
        found = [f"{lib.path} → {lib.file}" if lib.is_link else lib.path for lib in libraries if not lib.stub]
        detail = text("{count} names, each leading to a library.", count=len(found)) if found else text("None is here.")
        yield ok(CHAIN, detail, chains=found)
        return
    first, fault = broken[0]
    whole = loaded_as(host, "libcuda.so.1")
    met = {place for lib, _ in broken for place in lib.found_by} & NAMED_PLACES
    harmless = bool(whole and whole.fault is None and not met)
    if whole and whole.fault is None and gone_round(host) and met <= {"toolkit"}:
        detail = text("{chain} is broken, but programs here are led round it.", chain=" → ".join(first.chain))
        yield ok(CHAIN, detail, chains={lib.path: list(lib.chain) for lib, _ in broken})
        return
    yield bad(
        Status.WARN if harmless else grade(host),
        LINK_BROKEN,
        text("A link of libcuda is broken"),
        text("{chain}: {fault}.", chain=" → ".join(first.chain), fault=FAULTS[fault]),
        Chains(tuple(lib.chain for lib, _ in broken)),
        chains={lib.path: list(lib.chain) for lib, _ in broken},
        faults={lib.path: fault for lib, fault in broken},
        fault=fault,
    )


def gone_round(host: Machine) -> bool:
    """Does a good libcuda in CUDA_PATH, as a private one has it, come before the toolkit's?"""
    hit = _cpm_hit(host, "cuda")
    return hit is not None and hit.rule == "CUDA_PATH/lib64" and bool(hit.loads)


def _fault(host: Machine, library: Library) -> str | None:
    if library.fault == "dangling" and not library.is_link:
        return None  # the linker's cache names what is gone, and its own check says so
    if library.fault in FAULTS:
        return library.fault
    os = maybe(host.os)
    if library.fault or os is None or library.machine in (None, os.machine):
        return None
    # 32-bit twins have folders of their own; in a place for 64-bit libraries one is a fault.
    place = library.path
    expected = "lib64/" in place or f"{os.machine}-linux-gnu/" in place
    return "wrong-machine" if expected or {"LD_LIBRARY_PATH", "CUDA_PATH"} & set(library.found_by) else None


def stub(host: Machine) -> Iterator[Finding]:
    """The toolkit's link-time stub answers every call with error 34; it must never be the libcuda that is loaded."""
    hit = _cpm_hit(host, "cuda")
    loaded = loaded_as(host, "libcuda.so.1")
    if loaded is not None and loaded.stub:
        yield _stub_used(grade(host), loaded.path, text("the dynamic loader"))
    elif hit is not None and hit.stub and hit.path:
        yield _stub_used(grade(host), hit.path, text("cpm_kernels"))
    else:
        stubs = [lib.path for lib in known(host.libraries) if lib.name == "cuda" and lib.stub]
        yield ok(STUB, text("No program is led to a stub."), stubs=stubs)


def _stub_used(status: Status, path: str, who: Text) -> Finding:
    return bad(
        status,
        "libcuda-stub-loaded",
        text("A stub is loaded in place of libcuda"),
        text(
            "{who} takes {path}, the toolkit's link-time stub; every CUDA call then fails with error 34.",
            who=who,
            path=path,
        ),
        path=path,
    )


def load(host: Machine) -> Iterator[Finding]:
    library = loaded_as(host, "libcuda.so.1")
    path = known(host.loader).resolved.get("libcuda.so.1")
    if path and (library is None or library.fault is None):
        yield ok(LOAD, text("The loader takes {path}.", path=path), path=path)
        return
    if not has_card(host):
        yield skipped(LOAD, NO_CARD)
        return
    elsewhere = sorted({lib.path for lib in driver_libraries(host) if lib.name == "cuda"})
    yield bad(
        Status.FAIL,
        "libcuda-so-missing",
        text("libcuda.so.1 cannot be loaded"),
        text("The loader finds no libcuda.so.1, though {files} lies here.", files=", ".join(elsewhere[:3]))
        if elsewhere
        else text("The loader finds no libcuda.so.1, and none lies in the usual folders."),
        found=elsewhere,
        resolved=path,
    )


def link(host: Machine) -> Iterator[Finding]:
    """cpm_kernels opens libcuda by its own rules; what torch finds is of no use to it."""
    hit, real = _cpm_hit(host, "cuda"), [lib for lib in driver_libraries(host) if lib.name == "cuda"]
    if not has_card(host) and not real:
        yield skipped(LINK, NO_CARD)
    elif hit is None:
        yield skipped(LINK, text("The search of cpm_kernels was not replayed for libcuda."))
    elif hit.path and hit.loads is not False and not hit.stub:
        yield ok(LINK, text("It takes {path} ({rule}).", path=hit.path, rule=hit.rule), path=hit.path, rule=hit.rule)
    else:
        yield _not_linked(host, hit, real)


def _not_linked(host: Machine, hit: CpmHit, real: list[Library]) -> Finding:
    files = sorted({lib.path for lib in real}, key=lambda path: (not path.endswith(".so.1"), path))
    tried = ", ".join(hit.tried)
    if hit.path:
        detail = text("It takes {path} ({rule}), which cannot be used as libcuda.", path=hit.path, rule=hit.rule)
    elif files:
        detail = text("It looked for {tried}; libcuda lies at {files}.", tried=tried, files=", ".join(files[:2]))
    else:
        detail = text("It looked for {tried}, and no libcuda was found elsewhere either.", tried=tried)
    return bad(
        _link_grade(host),
        "libcuda-not-in-cuda-path",
        text("cpm_kernels does not find libcuda"),
        detail,
        tried=list(hit.tried),
        hit=hit.path,
        candidates=files,
        names=sorted({name(lib) for lib in real}),
    )


def _link_grade(host: Machine) -> Status:
    """A Python with torch and without cpm_kernels does not need its search; of one without torch nothing is known."""
    cpm, checkpoint = maybe(host.cpm), model(host)
    quantised = checkpoint is not None and checkpoint.quantization_bit
    needed = (cpm and cpm.version) or quantised or maybe(host.torch) is None
    return grade(host) if needed else Status.WARN


def _cpm_hit(host: Machine, library: str) -> CpmHit | None:
    cpm = maybe(host.cpm)
    return next((hit for hit in cpm.hits if hit.library == library), None) if cpm else None


CHECKS = (
    Check(
        "cuda.libcuda-chain",
        CHAIN,
        chain,
        problems=(LINK_BROKEN,),
        needs=("libraries",),
        explained_by=NO_DRIVER,
    ),
    Check("cuda.libcuda-stub", STUB, stub, problems=("libcuda-stub-loaded",), needs=("libraries", "loader")),
    Check(
        "cuda.libcuda-load",
        LOAD,
        load,
        problems=("libcuda-so-missing",),
        needs=("libraries", "loader"),
        explained_by=NO_LIBCUDA,
    ),
    Check(
        "cuda.libcuda-link",
        LINK,
        link,
        problems=("libcuda-not-in-cuda-path",),
        needs=("cpm", "libraries"),
        explained_by=(*NO_LIBCUDA, "libcuda-stub-loaded", "libcuda-so-missing"),
    ),
)
