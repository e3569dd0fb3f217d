"""The cards' memory beside the model that ``--model`` names."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.situation import model
from glmdoctor.checks.system import OVERHEAD, gib
from glmdoctor.findings import Finding, Status
from glmdoctor.messages import text

TITLE = text("Memory of the cards")


def fits(host: Machine) -> Iterator[Finding]:
    gpus, torch, checkpoint = known(host.nvml).gpus, maybe(host.torch), model(host)
    if not gpus or checkpoint is None or torch is None or not torch.cuda:
        yield skipped(TITLE, text("No model was named, or there is no card that torch could use."))
        return
    needed = checkpoint.weight_bytes + OVERHEAD
    free, total = sum(gpu.memory_free for gpu in gpus), sum(gpu.memory_total for gpu in gpus)
    values = {"free": gib(free), "total": gib(total), "needed": gib(needed)}
    evidence = {"free": free, "total": total, "needed": needed}
    if free >= needed:
        yield ok(TITLE, text("{free} of {total} are free, {needed} are needed.", **values), **evidence)
        return
    yield bad(
        Status.WARN,  # it can be quantised while loading, or split with the CPU
        "cuda-oom",
        text("The cards' memory is short for this model"),
        text("Other processes hold the cards: {free} of {total} are free, {needed} are needed.", **values)
        if total >= needed
        else text("The cards have {total}, {needed} are needed: quantise it or split it with the CPU.", **values),
        **evidence,
    )


CHECKS = (Check("gpu.memory", TITLE, fits, problems=("cuda-oom",), needs=("nvml",)),)
