"""Faults of the cards, by NVML's counters and by the Xids of the kernel's log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import CARD_LOST, LOST_CARD
from glmdoctor.checks.gpu_health import CAUSES, NO_GPU
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import NvmlGpu, Xid
from glmdoctor.messages import text
from glmdoctor.readings.xids import kind, place

FAULTS = text("Faults of the cards")
MEMORY = text("Memory of the cards")
MEMORY_FAULTS = text("The card's memory has uncorrectable errors")


def memory(host: Machine) -> Iterator[Finding]:
    """Errors of a card's memory, by its counters and by the Xids that speak of them."""
    gpus, log = known(host.nvml).gpus, maybe(host.kernel_log)
    told = [xid for xid in log.xids if kind(xid.number) == "memory"] if log else []
    counted = [gpu for gpu in gpus if _has_faults(gpu)]
    yield from (_memory_fault(gpu, [xid for xid in told if place(xid.pci) == place(gpu.pci)]) for gpu in counted)
    logged = [xid for xid in told if place(xid.pci) not in {place(gpu.pci) for gpu in counted}]
    yield from (_memory_fault_by_log(xid, log.source if log else "") for xid in logged)
    if counted or logged:
        return
    readings = {str(gpu.index): vars(gpu.memory_faults) for gpu in gpus if gpu.memory_faults}
    if readings:
        yield ok(MEMORY, text("No uncorrectable errors."), cards=readings)
    else:
        yield skipped(MEMORY, text("No card here counts errors of its memory.") if gpus else NO_GPU)


def _has_faults(gpu: NvmlGpu) -> bool:
    faults = gpu.memory_faults
    return bool(faults and (faults.remap_failed or faults.remap_pending or faults.since_boot))


def _memory_fault(gpu: NvmlGpu, xids: Sequence[Xid]) -> Finding:
    faults = gpu.memory_faults
    assert faults is not None
    what = (
        text("no spare row is left for a bad one: have the card exchanged")
        if faults.remap_failed
        else text("a bad row waits to be taken out: reset the card or restart the machine")
        if faults.remap_pending
        else text("results may be wrong: restart what ran on it, and watch it")
    )
    return bad(
        Status.FAIL if faults.remap_failed else Status.WARN,
        "gpu-ecc-errors",
        MEMORY_FAULTS,
        text(
            "GPU {index} ({name}): {count} since the start, {ever} in its life; {what}.",
            index=gpu.index,
            name=gpu.name,
            count=_count(faults.since_boot),
            ever=_count(faults.ever),
            what=what,
        ),
        index=gpu.index,
        **vars(faults),
        xids=[vars(xid) for xid in xids],
    )


def _memory_fault_by_log(xid: Xid, source: str) -> Finding:
    detail = text(
        "Xid {number} in the kernel's log ({source}): {line}", number=xid.number, source=source, line=xid.line
    )
    return bad(Status.WARN, "gpu-ecc-errors", MEMORY_FAULTS, detail, xids=[vars(xid)], source=source)


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def faults(host: Machine) -> Iterator[Finding]:
    """Xids of card and driver; those of programs (13, 31, 43) end with the program and say nothing of the machine."""
    gpus, log = known(host.nvml).gpus, maybe(host.kernel_log)
    xids = [xid for xid in log.xids if kind(xid.number) != "memory"] if log else []
    found = list(_xids(xids, log.source, gpus)) if log else []
    yield from found
    if found:
        return
    if xids:
        numbers = ", ".join(str(xid.number) for xid in xids)
        detail = text("The kernel's log has Xid {numbers}: faults of programs, not of a card.", numbers=numbers)
    elif not gpus:
        yield skipped(FAULTS, NO_GPU)
        return
    elif log:
        detail = text("The kernel's log ({source}) has no Xid of card or driver.", source=log.source)
    else:
        yield skipped(FAULTS, text("The kernel's log cannot be read by this user."))
        return
    yield ok(FAULTS, detail, xids=[xid.number for xid in xids])


def _xids(xids: Sequence[Xid], source: str, gpus: Sequence[NvmlGpu]) -> Iterator[Finding]:
    for card in dict.fromkeys(place(xid.pci) for xid in xids):
        own = [xid for xid in xids if place(xid.pci) == card]
        lost = [xid for xid in own if kind(xid.number) == "lost"]
        grave = [xid for xid in own if kind(xid.number) in ("card", "driver", "unknown")]
        if lost:
            yield bad(
                Status.FAIL,
                CARD_LOST,
                text("A card fell off the bus"),
                text("The kernel's log ({source}): {line}", source=source, line=lost[-1].line),
                xids=[vars(xid) for xid in lost],
                source=source,
            )
        if grave:
            yield replace(_grave(grave, source), follows_from=_explained(card, gpus))


def _grave(xids: Sequence[Xid], source: str) -> Finding:
    return bad(
        Status.WARN,
        "gpu-xid-fault",
        text("The driver reported a fault of card or driver"),
        text(
            "Xid {numbers} in the kernel's log ({source}): {line}",
            numbers=", ".join(f"{xid.number} ({xid.pci})" for xid in xids),
            source=source,
            line=xids[-1].line,
        ),
        xids=[{**vars(xid), "kind": kind(xid.number)} for xid in xids],
        source=source,
    )


def _explained(card: str, gpus: Sequence[NvmlGpu]) -> tuple[str, ...]:
    """What NVML says of the same card that such faults come from: heat or a weak supply, bad memory."""
    own = [gpu for gpu in gpus if place(gpu.pci) == card]
    throttled = any(set(gpu.slowed_by) & set(CAUSES) for gpu in own)
    return (*(("gpu-throttled",) if throttled else ()), *(("gpu-ecc-errors",) if any(map(_has_faults, own)) else ()))


CHECKS = (
    Check("gpu.memory", MEMORY, memory, problems=("gpu-ecc-errors",), needs=("nvml",), explained_by=LOST_CARD),
    Check("gpu.faults", FAULTS, faults, problems=("gpu-xid-fault", CARD_LOST), needs=("nvml",),
          explained_by=LOST_CARD),
)  # fmt: skip
