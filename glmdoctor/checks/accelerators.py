"""Accelerators that are not NVIDIA's: seen, named, and what glmcore can do with each."""

from __future__ import annotations

from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, known, maybe, ok
from glmdoctor.findings import Finding
from glmdoctor.host.facts import Accelerator
from glmdoctor.messages import Text, text

NO_BACKEND = text("glmcore has no backend for it; models run on the CPU")
TITLE = text("Accelerators of other makers")
NAMES: dict[str, Text] = {
    "amd": text("AMD graphics"),
    "intel": text("Intel graphics card"),
    "ascend": text("Huawei Ascend"),
    "apple": text("Apple processor with Metal"),
    "hexaflake": text("Hexaflake Compass"),
}
USES: dict[str, Text] = {
    "amd": text("with torch for ROCm a plan may name it cuda:N; without it models run on the CPU"),
    "intel": text("with torch for XPU a plan may name it xpu:N; without it models run on the CPU"),
    "ascend": NO_BACKEND,
    "apple": text("a plan may name it mps; quantised models run on the CPU kernel"),
    "hexaflake": text("it runs graphs that its maker's compiler makes; glmcore itself runs on the CPU"),
}


def seen(host: Machine) -> Iterator[Finding]:
    found = known(host.accelerators)
    if not found:
        yield ok(TITLE, text("None was seen."))
    for accelerator in found:
        yield ok(
            TITLE,
            text(
                "{name} ({where}), {runtime}: {use}.",
                name=NAMES.get(accelerator.kind, accelerator.kind),
                where=", ".join((*accelerator.pci, *accelerator.nodes)) or "-",
                runtime=_runtime(host, accelerator),
                use=USES.get(accelerator.kind, NO_BACKEND),
            ),
            **vars(accelerator),
        )


def _runtime(host: Machine, accelerator: Accelerator) -> object:
    torch = maybe(host.torch)
    if accelerator.kind == "amd" and torch and torch.hip:
        return text("torch for ROCm {version}", version=torch.hip)
    if accelerator.kind in ("amd", "intel", "ascend") and accelerator.runtime is None:
        return text("its maker's runtime was not found")
    return accelerator.runtime or accelerator.driver or text("driver not known")


CHECKS = (Check("accelerators.seen", TITLE, seen, needs=("accelerators",)),)
