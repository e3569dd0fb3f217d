"""Where the original code's usual ways fail for want of a card: Apple's Metal (MPS), and half precision on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.plan import Device
from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import LITTLE_MEMORY, NO_PACKAGES, OLD_PACKAGES
from glmdoctor.checks.fit import USUAL_CONTEXT, Place, contexts
from glmdoctor.checks.system import gib
from glmdoctor.findings import Finding, Status
from glmdoctor.messages import text
from glmdoctor.readings.cards import has_card
from glmdoctor.readings.versions import admits

MEMORY = text("Metal's memory for the model")
OPERATORS = text("Operators of torch on Metal")
HALF = text("Half precision on the CPU")
NOT_APPLE = text("This is no Apple processor with Metal.")

RATIO = "PYTORCH_MPS_HIGH_WATERMARK_RATIO"
# torch lets MPS grow to this part of what Metal recommends, which is about two thirds of the unified memory.
DEFAULT_RATIO, RECOMMENDED = 1.7, 2 / 3
FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
# topk with more than 16 came with 2.0; products of half matrices on a CPU with 2.2.
FEW_OPERATORS, NO_HALF = "<2.0", "<2.2"


def _metal(host: Machine) -> bool:
    os = known(host.os)
    return os.system == "Darwin" and os.machine == "arm64"


def memory(host: Machine) -> Iterator[Finding]:
    """Metal shares the machine's memory, and torch takes a part of it only."""
    if not _metal(host):
        yield skipped(MEMORY, NOT_APPLE)
        return
    try:
        config = ModelConfig.from_dict(known(host.checkpoint).config)
    except GlmError as error:
        yield skipped(MEMORY, text("The configuration does not tell the model's size: {reason}", reason=str(error)))
        return
    ratio, total = _ratio(host), known(host.memory).total
    limit = int(min(total, total * RECOMMENDED * ratio)) if ratio else total
    fitting = contexts(config, Place("mps", (Device("cpu", limit),)))
    precision = {0: "float16", 8: "int8", 4: "int4"}[config.quantization_bit]
    evidence = {"limit": limit, "total": total, RATIO: ratio, "max_context": fitting}
    if fitting.get(precision, 0) >= min(USUAL_CONTEXT, config.max_length):
        yield ok(MEMORY, text("{limit} hold it in {precision}.", limit=gib(limit), precision=precision), **evidence)
        return
    others = [name for name, tokens in fitting.items() if tokens]
    yield bad(
        Status.WARN,
        "mps-oom",
        text("Metal's memory is short for this model"),
        text(
            "torch lets Metal take {limit} of {total}, too little for {precision}; what fits: {others}.",
            limit=gib(limit),
            total=gib(total),
            precision=precision,
            others=", ".join(others) or "-",
        ),
        **evidence,
    )


def _ratio(host: Machine) -> float:
    """0 lifts the limit."""
    settings = maybe(host.settings)
    try:
        return float(settings.values[RATIO]) if settings else DEFAULT_RATIO
    except (KeyError, ValueError):
        return DEFAULT_RATIO


def operators(host: Machine) -> Iterator[Finding]:
    torch, settings = known(host.torch), maybe(host.settings)
    if not _metal(host):
        yield skipped(OPERATORS, NOT_APPLE)
    elif not admits(FEW_OPERATORS, torch.version) or (settings and settings.values.get(FALLBACK) == "1"):
        yield ok(OPERATORS, text("{version} has those of the ChatGLM models.", version=torch.version))
    else:
        yield bad(
            Status.WARN,
            "mps-op-unsupported",
            text("torch lacks operators on Metal"),
            text("{version} has no topk beyond 16 on Metal, which sampling needs; 2.0 has.", version=torch.version),
            version=torch.version,
        )


def half(host: Machine) -> Iterator[Finding]:
    torch, config = known(host.torch), known(host.checkpoint).config
    if torch.cuda and has_card(host):
        yield skipped(HALF, text("The model can run on a card."))
    elif config.get("torch_dtype", config.get("dtype")) != "float16":
        yield skipped(HALF, text("config.json does not ask for half precision."))
    elif not admits(NO_HALF, torch.version):
        yield ok(HALF, text("{version} computes it.", version=torch.version))
    else:
        yield bad(
            Status.WARN,
            "half-on-cpu",
            text("torch computes no half precision on the CPU"),
            text(
                "{version} has no product of half matrices on a CPU (2.2 has): with the model's own code write "
                ".float() in place of .half(); glmcore chooses a type that works.",
                version=torch.version,
            ),
            version=torch.version,
        )


CHECKS = (
    Check(
        "model.metal",
        MEMORY,
        memory,
        problems=("mps-oom",),
        needs=("os", "memory", "checkpoint"),
        explained_by=LITTLE_MEMORY,
    ),
    Check(
        "torch.metal",
        OPERATORS,
        operators,
        problems=("mps-op-unsupported",),
        needs=("os", "torch"),
        explained_by=NO_PACKAGES,
    ),
    Check(
        "torch.half",
        HALF,
        half,
        problems=("half-on-cpu",),
        needs=("torch", "checkpoint"),
        explained_by=OLD_PACKAGES,
    ),
)
