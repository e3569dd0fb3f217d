"""bitsandbytes beside torch: is there a binary for its CUDA? The models' own quantisation does without it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import TORCH_UNFIT
from glmdoctor.findings import Finding, Status, Variables
from glmdoctor.messages import text
from glmdoctor.readings.cards import has_card

TITLE = text("bitsandbytes beside torch")
VARIABLE = "BNB_CUDA_VERSION"


def binary(host: Machine) -> Iterator[Finding]:
    found, torch, settings = known(host.bitsandbytes), known(host.torch), maybe(host.settings)
    if not torch.cuda or not has_card(host):
        yield skipped(TITLE, text("torch here computes on no NVIDIA card."))
        return
    forced = settings.values.get(VARIABLE, "") if settings else ""
    wanted = "cuda" + (forced or "".join(re.findall(r"\d+", torch.cuda)[:2]))
    evidence = {"version": found.version, "binaries": list(found.binaries), "wanted": wanted, VARIABLE: forced or None}
    if wanted in found.binaries:
        yield ok(TITLE, text("{version} has a binary for {wanted}.", version=found.version, wanted=wanted), **evidence)
        return
    brings = ", ".join(found.binaries) or "-"
    yield bad(
        Status.WARN,
        "bitsandbytes-cuda-setup",
        text("bitsandbytes has no binary for this CUDA"),
        text(
            "{variable} asks bitsandbytes {version} for {wanted}; it brings {brings}. Unset it.",
            variable=f"{VARIABLE}={forced}",
            version=found.version,
            wanted=wanted,
            brings=brings,
        )
        if forced
        else text(
            "bitsandbytes {version} brings {brings}; torch {torch} needs {wanted}. int8 and int4 by bitsandbytes "
            "fail; the checkpoints' own quantisation does not need it.",
            version=found.version,
            brings=brings,
            torch=torch.version,
            wanted=wanted,
        ),
        Variables((VARIABLE,)) if forced else None,
        **evidence,
    )


CHECKS = (
    Check(
        "python.bitsandbytes",
        TITLE,
        binary,
        problems=("bitsandbytes-cuda-setup",),
        needs=("bitsandbytes", "torch"),
        explained_by=TORCH_UNFIT,
    ),
)
