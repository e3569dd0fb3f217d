"""From what the rounds measured to goals, ratios and speeds. Pure; imports only the standard library.

Results are lists by part, one entry for each round. Ratios are taken within a round and their median over the rounds,
so that a machine that drifts hits both sides alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Sequence[Mapping[str, Any]]]
BEGIN, END = "<!-- cpu: begin -->", "<!-- cpu: end -->"
# Bytes of a stored weight with its share of the scales.
WEIGHT_BYTES = {
    "llama.cpp Q4_0": 18 / 32, "llama.cpp Q8_0": 34 / 32,
    "OpenVINO": 0.5 + 2 / 128, "onnxruntime": 0.5 + 4 / 128,
    "original": 0.5, "our layers": 0.5,
}  # fmt: skip
PRECISIONS = ("fast", "exact")
# Rows in one step → what it may cost against one row.
ROW_GOALS = {
    "fast": {2: 1.15, 4: 1.9, 8: 3.6, 16: 6.0},
    "light": {2: 1.1, 4: 1.5, 8: 2.2, 16: 3.3},
}


# The type of keys and values → what a long context may leave of the speed.
CACHE_GOALS = {"float32": 0.75, "bfloat16": 0.82}
# Of the integer peak, by the instruction that has it: what prompts' products reach.
PEAK_GOALS = {"vpdpbusd": 0.85}


@dataclass(frozen=True)
class Shape:
    """What is counted: weights of the layers and of the head, and the lengths that were measured."""

    layer_weights: int
    head_weights: int
    lengths: tuple[int, int]
    contexts: tuple[int, int]


@dataclass(frozen=True)
class Goal:
    """A figure to reach, with its value in every round; ``at_most`` where less is better."""

    what: str
    wanted: float
    values: tuple[float, ...]
    unit: str = "×"
    at_most: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        return self.median <= self.wanted if self.at_most else self.median >= self.wanted

    @property
    def cells(self) -> str:
        """The measured value, its spread, and the answer."""
        if not self.values:
            return "not measured | – | –"
        spread = f"{number(min(self.values))}–{number(max(self.values))}"
        return f"{number(self.median)} | {spread} | {'yes' if self.reached else '**no**'}"


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def series(results: Results, part: str, *path: str) -> list[float | None]:
    """One value for each round of a part; None where a round has none."""
    found: list[float | None] = []
    for entry in results.get(part, ()):
        value: Any = entry
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        found.append(value)
    return found


def combine(function: Callable[..., float], *columns: Sequence[float | None]) -> tuple[float, ...]:
    """``function`` of the columns round by round, where every one has a value."""
    rows = zip(*columns, strict=False)
    return tuple(function(*row) for row in rows if all(value is not None for value in row))


def ratio(above: Sequence[float | None], below: Sequence[float | None]) -> tuple[float, ...]:
    return combine(lambda a, b: a / b, above, below)


def rate_of_layers(results: Results, part: str, length: int | None = None) -> list[float | None]:
    """Tokens/s out of the seconds that all layers take, for one token or a prompt."""
    if length is None:
        return [None if seconds is None else 1 / seconds for seconds in series(results, part, "decode_s")]
    taken = series(results, part, "prefill_s", str(length))
    return [None if seconds is None else length / seconds for seconds in taken]


def best_of(*columns: Sequence[float | None]) -> list[float | None]:
    """The larger of what the round has."""
    longest = max(map(len, columns), default=0)
    rows = [[column[i] for column in columns if i < len(column) and column[i] is not None] for i in range(longest)]
    return [max(row) if row else None for row in rows]


def goals(results: Results, shape: Shape, precision: str) -> list[Goal]:
    """The figures to reach of whole models in one precision of activations."""

    def ours(part: str, *path: str) -> list[float | None]:
        return series(results, part, precision, *path)

    peak = series(results, "machine", "integer_peak")

    def share(part: str) -> tuple[float, ...]:
        return combine(float, ours(part, "share"))

    def peak_share(part: str, length: int) -> tuple[float, ...]:
        work = ours(part, "operations_per_token")
        return combine(lambda speed, each, limit: speed * each / limit, ours(part, "prefill", str(length)), work, peak)

    decode, near, far = ours("int4", "decode"), *shape.contexts
    peers = best_of(rate_of_layers(results, "OpenVINO"), rate_of_layers(results, "onnxruntime"))
    listed = [
        Goal(
            "decode int4 / llama.cpp Q4_0", 1.05 if precision == "fast" else 1.0,
            ratio(decode, series(results, "llama.cpp Q4_0", "decode")),
        ),
        Goal("decode int4 / the better of OpenVINO and onnxruntime", 1.15, ratio(decode, peers)),
        Goal("decode int4, share of a pure read in the same second", 0.92, share("int4"), ""),
        Goal(
            "decode int8 / llama.cpp Q8_0", 1.15,
            ratio(ours("int8", "decode"), series(results, "llama.cpp Q8_0", "decode")),
        ),
        Goal("decode int8, share of a pure read in the same second", 0.75, share("int8"), ""),
        Goal("decode int4 / the original way", 15, ratio(decode, rate_of_layers(results, "original"))),
    ]  # fmt: skip
    for length in shape.lengths:
        speed = ours("int4", "prefill", str(length))
        llama = series(results, "llama.cpp Q4_0", "prefill", str(length))
        listed += [
            Goal(f"prefill {length} int4 / llama.cpp Q4_0", 2.8 if precision == "fast" else 1.0, ratio(speed, llama)),
            Goal(f"prefill {length} int4 / OpenVINO", 1.2, ratio(speed, rate_of_layers(results, "OpenVINO", length))),
        ]
    for part, name in (("v1", "ChatGLM-6B"), ("glm4", "GLM-4-9B")):
        listed += [
            Goal(f"decode {name} int4, share of a pure read in the same second", 0.9, share(part), ""),
            Goal(
                f"prefill {shape.lengths[0]} {name} int4, share of the integer peak", 0.75,
                peak_share(part, shape.lengths[0]), "",
            ),
        ]  # fmt: skip
    peak_memory = combine(float, ours("int4", "peak_ratio"))
    return [
        *listed,
        *(
            Goal(
                f"decode at {far} tokens / at {near}, cache in {kept}",
                wanted,
                ratio(ours("int4", f"decode_{kept}", str(far)), ours("int4", f"decode_{kept}", str(near))),
            )
            for kept, wanted in CACHE_GOALS.items()
        ),
        Goal("peak memory / (weights + cache)", 1.1, peak_memory, at_most=True),
    ]


def other_goals(results: Results, shape: Shape) -> list[Goal]:
    """Those that do not hang on the whole model's precision."""
    peak, instructions = series(results, "machine", "integer_peak"), series(results, "machine", "instruction")
    wanted_share = max((share for name, share in PEAK_GOALS.items() if name in str(instructions[:1])), default=0.6)
    shares = [
        Goal(
            f"linear layers at {length}, fast, share of the integer peak", wanted_share,
            combine(
                lambda speed, limit: speed * 2 * shape.layer_weights / limit,
                rate_of_layers(results, "our layers", length), peak,
            ), "",
        )
        for length in shape.lengths
    ]  # fmt: skip
    loads = combine(float, series(results, "load", "seconds"))
    costs = [
        Goal(
            f"{rows} answers in one step against one, {precision}", wanted,
            combine(float, series(results, "int4", "step_cost", precision, str(rows))), at_most=True,
        )
        for precision, goals_of in ROW_GOALS.items()
        for rows, wanted in goals_of.items()
    ]  # fmt: skip
    return [
        *shares,
        *costs,
        Goal("loading a 6B int4 checkpoint, page cache warm", 3, loads, "s", at_most=True),
        Goal("the demo model", 300, combine(float, series(results, "demo", "decode")), "tokens/s"),
    ]


@dataclass(frozen=True)
class Speed:
    """One row of the table of speeds: tokens/s by round, and what a token reads and computes."""

    name: str
    decode: tuple[float, ...]
    prefill: dict[int, tuple[float, ...]]
    bytes_per_token: float
    operations: float  # of a prompt's token
    head_operations: float


def speeds(results: Results, shape: Shape) -> list[Speed]:
    """Everybody who was measured."""
    found = []
    work = (2.0 * shape.layer_weights, 2.0 * shape.head_weights)
    for part in ("int4", "int8"):
        for precision in PRECISIONS:
            decode = combine(float, series(results, part, precision, "decode"))
            if decode:
                lengths = {n: series(results, part, precision, "prefill", str(n)) for n in shape.lengths}
                prefill = {n: combine(float, values) for n, values in lengths.items()}
                read = statistics.median(combine(float, series(results, part, precision, "bytes_per_token")))
                found.append(Speed(f"glmcore {part}, {precision}", decode, prefill, read, *work))
    for part, size in WEIGHT_BYTES.items():
        if part.startswith("llama"):
            decode = combine(float, series(results, part, "decode"))
            prefill = {n: combine(float, series(results, part, "prefill", str(n))) for n in shape.lengths}
        else:
            decode = combine(float, rate_of_layers(results, part))
            prefill = {n: combine(float, rate_of_layers(results, part, n)) for n in shape.lengths}
        if decode:
            read = size * (shape.layer_weights + shape.head_weights)
            found.append(Speed(part, decode, prefill, read, *work))
    return found


def points(results: Results, shape: Shape) -> dict[str, Any]:
    """What the roofline shows: limits, and (operations per byte, operations per second) of each for each length."""
    placed = []
    for speed in speeds(results, shape):
        work = speed.operations + speed.head_operations
        placed.append((speed.name, 1, work / speed.bytes_per_token, work * statistics.median(speed.decode)))
        for length, values in speed.prefill.items():
            if values:
                intensity = length * speed.operations / speed.bytes_per_token
                placed.append((speed.name, length, intensity, speed.operations * statistics.median(values)))
    limits = {
        key: statistics.median(combine(float, series(results, "machine", key)))
        for key in ("bandwidth", "integer_peak", "float_peak")
    }
    return {"limits": limits, "points": placed}
