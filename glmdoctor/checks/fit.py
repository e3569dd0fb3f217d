"""What fits on this machine: at which precision, how long a context, by the arithmetic that places the model too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from glmcore.config import NAMED, ModelConfig
from glmcore.errors import GlmError
from glmcore.plan import Device, Plan, Precision, format_size, make_plan
from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import RAM_SHORT, UNUSED_CARD
from glmdoctor.checks.system import limited
from glmdoctor.findings import Finding, Status
from glmdoctor.host.facts import NvmlGpu
from glmdoctor.messages import Text, text

CAPACITY = text("What fits into memory")
TITLE = text("Memory for the model")
THE_6B = "chatglm2-6b"
# torch and the libraries that it brings into a process, before the first tensor.
RUNTIME = 512 * 2**20
USUAL_CONTEXT = 2048
PRECISIONS: Mapping[str, int] = {"float16": 0, "int8": 8, "int4": 4}


@dataclass(frozen=True)
class Place:
    """Devices that could hold a model together."""

    name: str
    devices: tuple[Device, ...]


def places(host: Machine) -> tuple[Place, ...]:
    """Each card's free memory, all cards together, the memory, and cards and memory together."""
    cards = tuple(Device(f"cuda:{gpu.index}", gpu.memory_free) for gpu in gpus(host) if gpu.memory_free)
    free = known(host.memory).usable - RUNTIME
    memory = (Device("cpu", free),) if free > 0 else ()
    every = (*(Place(card.name, (card,)) for card in cards), Place("cards", cards), Place("cpu", memory))
    together = (Place("cards+cpu", (*cards, *memory)),) if cards else ()
    several = len(cards) > 1
    return tuple(p for p in (*every, *together) if p.devices and (several or p.name != "cards"))


def gpus(host: Machine) -> tuple[NvmlGpu, ...]:
    nvml = maybe(host.nvml)
    return nvml.gpus if nvml and nvml.code == 0 else ()


def usable(host: Machine, place: Place) -> bool:
    """Can the examined Python use the place at all: cards only with a CUDA build of torch."""
    torch = maybe(host.torch)
    return place.name == "cpu" or torch is None or bool(torch.cuda)


def fits(host: Machine) -> Iterator[Finding]:
    """The model that was named."""
    checkpoint = known(host.checkpoint)
    try:
        config = ModelConfig.from_dict(checkpoint.config)
    except GlmError as error:
        yield skipped(TITLE, text("The configuration does not tell the model's size: {reason}", reason=str(error)))
        return
    yield _model(host, config, checkpoint.path)


def capacity(host: Machine) -> Iterator[Finding]:
    """No model was named: what fits of the usual one is told, and nothing is judged."""
    config = NAMED[THE_6B]
    table = {place.name: contexts(config, place) for place in places(host)}
    yield ok(CAPACITY, text("A 6B model: {table}.", table=_words(table)), model=THE_6B, max_context=table)


def contexts(config: ModelConfig, place: Place) -> dict[str, int]:
    """Precision → the longest context in tokens; 0 where not even the weights fit. Nothing becomes more precise."""
    own = config.quantization_bit
    wanted = {name: bits for name, bits in PRECISIONS.items() if not own or 0 < bits <= own}
    return {name: _plan(config, place, bits, 1).max_context for name, bits in wanted.items()}


def _plan(config: ModelConfig, place: Place, bits: int, context: int) -> Plan:
    precision = Precision("float16", bits, config.quantised(bits).embedding_bits)
    return make_plan(config, place.devices, precision=precision, context=context)


def _words(table: Mapping[str, Mapping[str, int]]) -> Text | str:
    """ "cuda:0: int4 8192; cpu: float16 2048, int8 32768, int4 32768" with the unit said once."""
    parts = []
    for name, row in table.items():
        fitting = ", ".join(f"{precision} {tokens}" for precision, tokens in row.items() if tokens)
        parts.append(f"{name}: {fitting or '-'}")
    return text("{places} (tokens of context)", places="; ".join(parts)) if parts else text("nothing fits")


def _model(host: Machine, config: ModelConfig, path: str) -> Finding:
    found = places(host)
    context = min(USUAL_CONTEXT, config.max_length)
    plans = {p.name: _plan(config, p, config.quantization_bit, context) for p in found}
    table = {place.name: contexts(config, place) for place in found}
    fitting = [place.name for place in found if plans[place.name].fits and usable(host, place)]
    evidence = {"model": path, "context": context, "max_context": table, **_readings(host)}
    if on_cards := [name for name in fitting if name not in ("cpu", "cards+cpu")]:
        return ok(TITLE, text("It fits on {place}: {table}.", place=on_cards[-1], table=_words(table)), **evidence)
    cards = [place for place in found if place.name not in ("cpu", "cards+cpu") and usable(host, place)]
    if not cards and fitting:
        return ok(TITLE, text("It fits into memory: {table}.", table=_words(table)), **evidence)
    short = _short(host, cards, plans, table, bool(fitting), evidence)
    unused = [name for name, plan in plans.items() if name not in ("cpu", "cards+cpu") and plan.fits]
    # Only torch, which cannot use the card, makes the memory decide.
    return replace(short, follows_from=UNUSED_CARD) if unused and not cards else short


def _readings(host: Machine) -> dict[str, object]:
    memory = known(host.memory)
    return {
        "free": {"cpu": memory.usable, **{f"cuda:{gpu.index}": gpu.memory_free for gpu in gpus(host)}},
        "total": {"cpu": memory.total, **{f"cuda:{gpu.index}": gpu.memory_total for gpu in gpus(host)}},
        "limit": memory.limit,
    }


def _short(
    host: Machine,
    cards: Sequence[Place],
    plans: Mapping[str, Plan],
    table: Mapping[str, Mapping[str, int]],
    elsewhere: bool,
    evidence: Mapping[str, object],
) -> Finding:
    """The cards are short and something else holds the model (a warning), or nothing does (a failure)."""
    place = cards[-1].name if cards else "cpu"
    plan = plans.get(place)
    missing = plan.missing_bytes if plan else 0
    would_fit = {name: row for name, row in table.items() if any(row.values())}
    return bad(
        Status.WARN if elsewhere else Status.FAIL,
        "cuda-oom" if cards else RAM_SHORT,
        text("The cards' memory is short for this model") if cards else text("Too little memory for this model"),
        text(
            "{missing} more than the free {free} are needed{why}; what fits: {fitting}.",
            missing=format_size(missing),
            free=_free(host, bool(cards)),
            why=_why(host, bool(cards), missing),
            fitting=_words(would_fit),
        ),
        missing=missing,
        would_fit=would_fit,
        **evidence,
    )


def _free(host: Machine, cards: bool) -> str:
    return format_size(sum(gpu.memory_free for gpu in gpus(host)) if cards else known(host.memory).usable)


def _why(host: Machine, cards: bool, missing: int) -> object:
    """Who takes the memory that is missing: other processes on the cards, or a limit on this process."""
    if not cards:
        return limited(known(host.memory).limit)
    if sum(gpu.memory_total - gpu.memory_free for gpu in gpus(host)) < missing:
        return ""
    holders = [
        f"{process.name or '?'} ({process.pid}) {format_size(process.memory) if process.memory else '?'}"
        for gpu in gpus(host)
        for process in gpu.processes
    ]
    if not holders:
        return text(" (other processes hold the cards)")
    return text(" (held by {holders})", holders=", ".join(holders[:4]))


CHECKS = (
    Check("system.capacity", CAPACITY, capacity, needs=("memory",)),
    Check("model.memory", TITLE, fits, problems=("cuda-oom", RAM_SHORT), needs=("memory", "checkpoint")),
)
