"""The section of docs/benchmarks.md that one run of bench_cpu.py writes. Imports only the standard library."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from summary import BEGIN, END, PRECISIONS, Goal, Results, Shape, combine, goals, number, other_goals, series, speeds


def section(results: Results, shape: Shape, about: Mapping[str, str], absent: Mapping[str, str], picture: str) -> str:
    """about: "machine", "date", "command", "rounds"; absent: part → why it was not measured."""
    lines = [
        BEGIN,
        "## Whole models and their peers",
        "",
        f"{about['machine']}, {about['date']}.",
        f"One run, everybody in turn, rounds: {about['rounds']}. Medians and, as spread, the smallest and the largest",
        "value; ratios are taken within a round.",
        "",
        f"    {about['command']}",
        "",
        *limits(results),
        "",
        *goal_tables(results, shape),
        "",
        *speed_table(results, shape),
        "",
        *loads(results),
        *missing(absent),
        *([f"![Operations per byte against operations per second]({picture})", ""] if picture else []),
        *METHOD,
        END,
    ]
    return "\n".join(lines)


METHOD = """\
How it was measured: weights are random, shapes those of ChatGLM2-6B and ChatGLM3-6B. *glmcore* and *llama.cpp* run
the whole model with attention, prompts from an empty cache, decoding after the shorter prompt. OpenVINO,
onnxruntime and the original way run the linear layers alone, which flatters them: the four shapes times the number
of layers, for decoding the head too, weights rotated over 100 MB so that they do not stay in a cache. OpenVINO and
onnxruntime have int4 weights with a scale for each 128 and quantise the activations themselves where they can;
llama.cpp's Q4_0 and Q8_0 (embedding and head too) as its package from PyPI comes. The original way expands int4 to
float32 with the original compiler flags and multiplies by torch. GB/s are the bytes of the weights that a token
needs, for *glmcore* with the cache. The read bandwidth above is the best pass over 1 GB in four streams per thread;
shares of a pure read compare each token with reading 256 MB so right after it (the median of such pairs). The
integer peak counts a multiplication and an addition for each pair. Shares of the peak count the layers' products
only, against the time of the whole model. The cost of several answers in one step is the
median of paired steps, each row after as many tokens as the shorter prompt has.""".splitlines()


def limits(results: Results) -> list[str]:
    bandwidth = combine(float, series(results, "machine", "bandwidth"))
    if not bandwidth:
        return ["The machine's limits were not measured."]
    integers = combine(float, series(results, "machine", "integer_peak"))
    floats = combine(float, series(results, "machine", "float_peak"))
    name = results["machine"][0]["instruction"]
    return [
        f"Limits: reading {spread(bandwidth, 1e9)} GB/s, integer products ({name}) {spread(integers, 1e9)} GOP/s, "
        f"float32 FMA {spread(floats, 1e9)} GFLOP/s."
    ]


def spread(values: Sequence[float], unit: float = 1.0) -> str:
    """Median (smallest–largest)."""
    if not values:
        return "–"
    low, middle, high = (number(value / unit) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}–{high})"


def goal_tables(results: Results, shape: Shape) -> list[str]:
    """The figures to reach: with whole models in each precision, then the others."""
    head = [
        "| goal | wanted | " + " | ".join(f"{precision} | spread | reached" for precision in PRECISIONS) + " |",
        "|---|---|" + "---|" * (3 * len(PRECISIONS)),
    ]
    columns = [goals(results, shape, precision) for precision in PRECISIONS]
    rows = [f"| {row[0].what} | {wanted(row[0])} | {' | '.join(goal.cells for goal in row)} |"
            for row in zip(*columns, strict=True)]  # fmt: skip
    others = other_goals(results, shape)
    return [
        *head, *rows, "",
        "| goal | wanted | measured | spread | reached |", "|---|---|---|---|---|",
        *(f"| {goal.what} | {wanted(goal)} | {goal.cells} |" for goal in others),
    ]  # fmt: skip


def wanted(goal: Goal) -> str:
    return f"{'≤' if goal.at_most else '≥'} {goal.wanted:g} {goal.unit}".rstrip()


def speed_table(results: Results, shape: Shape) -> list[str]:
    short, long = shape.lengths
    machine = combine(float, series(results, "machine", "bandwidth"))
    peaks = combine(float, series(results, "machine", "integer_peak"))
    lines = [
        f"| | decode, tokens/s | GB/s | of the bandwidth | prefill {short}, tokens/s | prefill {long}, tokens/s "
        f"| GOP/s at {short} | of the integer peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for speed in speeds(results, shape):
        read = statistics.median(speed.decode) * speed.bytes_per_token
        work = statistics.median(speed.prefill[short]) * speed.operations if speed.prefill[short] else None
        lines.append(
            f"| {speed.name} | {spread(speed.decode)} | {number(read / 1e9)} | {share(read, machine)} "
            f"| {spread(speed.prefill[short])} | {spread(speed.prefill[long])} "
            f"| {'–' if work is None else number(work / 1e9)} | {share(work, peaks)} |"
        )
    return lines


def share(value: float | None, limits: Sequence[float]) -> str:
    return f"{value / statistics.median(limits):.0%}" if value is not None and limits else "–"


def loads(results: Results) -> list[str]:
    """All loading times, in the order taken."""
    taken = combine(float, series(results, "load", "seconds"))
    if not taken:
        return []
    seconds = ", ".join(map(number, taken))
    prompts = ", ".join(map(number, combine(float, series(results, "load", "with_prompt"))))
    return [
        f"Loading the int4 checkpoint, each time in a new process, in the order taken: {seconds} s. It maps the file;",
        f"with a first prompt of 8 tokens, which reads all of it, loading took {prompts} s.",
        "",
    ]


def missing(absent: Mapping[str, str]) -> list[str]:
    """What has no figures, and why."""
    told = "; ".join(f"{part}: {reason}" for part, reason in absent.items())
    return [f"Not measured: {told}.", ""] if told else []


def printed(goal: Goal) -> dict[str, Any]:
    """A goal for the JSON file."""
    measured = {"median": goal.median, "reached": goal.reached} if goal.values else {}
    return {"what": goal.what, "wanted": wanted(goal), "values": list(goal.values), **measured}
