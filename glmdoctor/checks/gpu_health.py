"""How the cards are run, by what NVML and the kernel's log say: heat, the bus, NVSwitch, modes, each other."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import LOST_CARD
from glmdoctor.checks.nvml import NONE_VISIBLE
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import NvmlGpu
from glmdoctor.messages import Text, text
from glmdoctor.readings.cards import NVIDIA
from glmdoctor.readings.xids import place

SLOWED = text("Clocks of the cards")
LINK = text("PCIe links of the cards")
FABRIC = text("NVSwitch fabric")
MODES = text("Modes of the cards")
PEERS = text("Copies between the cards")
NO_GPU = text("NVML lists no GPU.")

# Above this performance state a card rests, and lowers its link to save power.
BUSY_STATE = 2
CAUSES: dict[str, Text] = {
    "hw-slowdown": text("the board's own protection"),
    "hw-thermal": text("heat, by the board's own protection"),
    "sw-thermal": text("heat, by the driver"),
    "power-brake": text("the power supply's brake signal"),
}


def slowed(host: Machine) -> Iterator[Finding]:
    gpus = known(host.nvml).gpus
    braked = [gpu for gpu in gpus if set(gpu.slowed_by) & set(CAUSES)]
    for gpu in braked:
        reasons = [name for name in gpu.slowed_by if name in CAUSES]
        yield bad(
            Status.WARN,
            "gpu-throttled",
            text("A card slows itself down"),
            text(
                "GPU {index} ({name}, {temperature}) is slowed down by {reason}: look at its cooling and power.",
                index=gpu.index,
                name=gpu.name,
                temperature="?" if gpu.temperature is None else f"{gpu.temperature} °C",
                reason=CAUSES[reasons[-1]],
            ),
            index=gpu.index,
            slowed_by=list(gpu.slowed_by),
            temperature=gpu.temperature,
            performance_state=gpu.performance_state,
        )
    if not gpus:
        yield skipped(SLOWED, NO_GPU)
    elif not braked:
        temperatures = {str(gpu.index): gpu.temperature for gpu in gpus}
        hottest = max((gpu.temperature for gpu in gpus if gpu.temperature is not None), default=None)
        yield ok(
            SLOWED,
            text("No card is slowed down by heat or its power supply.")
            if hottest is None
            else text("No card is slowed down by heat or its power supply; the hottest has {hottest} °C.",
                      hottest=hottest),
            temperatures=temperatures,
            at_power_cap=[gpu.index for gpu in gpus if "power-cap" in gpu.slowed_by],
        )  # fmt: skip


def link(host: Machine) -> Iterator[Finding]:
    gpus = [gpu for gpu in known(host.nvml).gpus if gpu.link]
    slow = [gpu for gpu in gpus if _is_slow(gpu)]
    for gpu in slow:
        assert gpu.link is not None
        yield bad(
            Status.WARN,
            "pcie-link-narrow",
            text("A card's PCIe link is below what it can do"),
            text(
                "GPU {index} ({name}) has {now}, and could have {best}: loading a model and splitting it are slower. "
                "Look at slot, riser and firmware settings.",
                index=gpu.index,
                name=gpu.name,
                now=f"PCIe {gpu.link.generation}.0 x{gpu.link.width}",
                best=f"PCIe {gpu.link.generation_max}.0 x{gpu.link.width_max}",
            ),
            index=gpu.index,
            performance_state=gpu.performance_state,
            **vars(gpu.link),
        )
    if not gpus:
        yield skipped(LINK, text("NVML tells no PCIe link."))
    elif not slow:
        found = {str(gpu.index): vars(gpu.link) for gpu in gpus}
        yield ok(LINK, text("Each as wide and as fast as card and slot allow (a resting card lowers it)."), **found)


def _is_slow(gpu: NvmlGpu) -> bool:
    """Narrower at any time, or of an older generation while it works."""
    assert gpu.link is not None
    busy = gpu.performance_state is not None and gpu.performance_state <= BUSY_STATE
    return gpu.link.width < gpu.link.width_max or (busy and gpu.link.generation < gpu.link.generation_max)


def fabric(host: Machine) -> Iterator[Finding]:
    nvml, driver, os = maybe(host.nvml), maybe(host.kernel_driver), maybe(host.os)
    told = {gpu.index: gpu.fabric for gpu in (nvml.gpus if nvml else ()) if gpu.fabric}
    behind = {index: state for index, state in told.items() if state != "completed"}
    running = driver.fabric_manager if driver else None
    if behind:
        index, state = next(iter(behind.items()))
        detail = text("GPU {index}: the fabric is '{state}', not 'completed'.", index=index, state=state)
    elif running is False and not told and not (os and os.container):
        detail = text("The machine has NVSwitch, but nv-fabricmanager does not run.")
    elif told or running:
        yield ok(FABRIC, text("Ready."), states=told, fabric_manager=running)
        return
    else:
        yield skipped(FABRIC, text("No NVSwitch here."))
        return
    yield bad(
        Status.FAIL,
        "cuda-system-not-ready",
        text("The NVSwitch fabric is not ready"),
        text(
            "{detail} {more}",
            detail=detail,
            more=text("cuInit answers 802 until the fabric manager of the driver's own version {version} runs.",
                      version=(driver.version if driver else None) or "?"),
        ),
        states=told,
        fabric_manager=running,
    )  # fmt: skip


def modes(host: Machine) -> Iterator[Finding]:
    gpus = known(host.nvml).gpus
    empty = [gpu for gpu in gpus if gpu.mig and not gpu.mig_instances]
    for gpu in empty:
        yield bad(
            Status.FAIL if len(empty) == len(gpus) else Status.WARN,
            NONE_VISIBLE,
            text("MIG is on, but no instance was made"),
            text(
                "GPU {index} ({name}) is in MIG mode without instances: CUDA programs see no device on it.",
                index=gpu.index,
                name=gpu.name,
            ),
            index=gpu.index,
            mig=True,
            mig_instances=0,
        )
    closed = [gpu for gpu in gpus if gpu.compute_mode == "prohibited" or (_one_alone(gpu) and gpu.processes)]
    yield from (_closed(gpu, all_of_them=len(closed) == len(gpus)) for gpu in closed)
    if not gpus:
        yield skipped(MODES, NO_GPU)
    elif not empty and not closed:
        yield ok(
            MODES,
            text("Persistence mode is off on {cards}: each first call wakes the driver, which takes seconds.",
                 cards=", ".join(str(gpu.index) for gpu in gpus if gpu.persistence is False))
            if any(gpu.persistence is False for gpu in gpus)
            else text("Each of {cards} takes one process alone; none holds it now.",
                      cards=", ".join(str(gpu.index) for gpu in gpus if _one_alone(gpu)))
            if any(map(_one_alone, gpus))
            else text("Nothing in the way."),
            persistence={str(gpu.index): gpu.persistence for gpu in gpus},
            mig={str(gpu.index): gpu.mig_instances for gpu in gpus if gpu.mig},
        )  # fmt: skip


def _one_alone(gpu: NvmlGpu) -> bool:
    return (gpu.compute_mode or "").startswith("exclusive")


def _closed(gpu: NvmlGpu, all_of_them: bool) -> Finding:
    values = {"index": gpu.index, "name": gpu.name}
    holders = ", ".join(f"{each.pid} {each.name}".strip() for each in gpu.processes)
    detail = (
        text("GPU {index} ({name}) is in exclusive mode, and a process holds it: {holders}.", holders=holders, **values)
        if _one_alone(gpu)
        else text("GPU {index} ({name}) is in prohibited mode: no CUDA program may use it.", **values)
    )
    return bad(
        Status.FAIL if all_of_them else Status.WARN,
        "gpu-exclusive-compute-mode",
        text("A card takes no further process"),
        detail,
        index=gpu.index,
        compute_mode=gpu.compute_mode,
        processes=[vars(each) for each in gpu.processes],
    )


def peers(host: Machine) -> Iterator[Finding]:
    """One card's access to another that the IOMMU refuses: NCCL then waits for ever, and says nothing."""
    cards = [place(card.address) for card in known(host.pci) if card.vendor == NVIDIA]
    log = known(host.kernel_log)
    refused = [fault for fault in log.dma_faults if place(fault.pci) in cards]
    if len(cards) < 2:
        yield skipped(PEERS, text("There are no two NVIDIA cards here."))
    elif not refused:
        yield ok(PEERS, text("The kernel's log ({source}) has no access that was refused.", source=log.source))
    else:
        yield bad(
            Status.WARN,
            "p2p-hang",
            text("The IOMMU refuses what a card asks for"),
            text(
                "Kernel's log ({source}): {line}. With several cards the first exchange between them then hangs.",
                source=log.source,
                line=refused[0].line,
            ),
            cards=cards,
            faults=[vars(fault) for fault in refused],
        )


CHECKS = (
    Check("gpu.clocks", SLOWED, slowed, problems=("gpu-throttled",), needs=("nvml",)),
    Check("gpu.link", LINK, link, problems=("pcie-link-narrow",), needs=("nvml",), explained_by=LOST_CARD),
    Check("gpu.fabric", FABRIC, fabric, problems=("cuda-system-not-ready",)),
    Check("gpu.peers", PEERS, peers, problems=("p2p-hang",), needs=("pci", "kernel_log")),
    Check("gpu.modes", MODES, modes, problems=(NONE_VISIBLE, "gpu-exclusive-compute-mode"),
          needs=("nvml",)),
)  # fmt: skip
