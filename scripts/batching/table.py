"""The figures beside their goals, as the section of a document. Imports only the standard library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEGIN, END = "<!-- batching: begin -->", "<!-- batching: end -->"
PRECISIONS = ("fast", "light")
# What became of the soak's requests.
FATES = {
    "whole": "read whole", "slow": "read slowly", "closed": "closed", "reset": "reset",
    "killed": "ended by SIGKILL of the client",
}  # fmt: skip
Figures = Sequence[Mapping[str, Any]]

METHOD = """\
How it was measured: the shapes of ChatGLM2-6B in int4, random weights. *Total* is every token after the first ones per
second, while all clients are being answered, after prompts of 32 tokens. *llama.cpp, one after the other* is what
llama-cpp-python's server gives, which answers one request at a time: its clients together get what one gets.
*llama.cpp, side by side* is its library's step over 8 sequences in one batch, as llama.cpp's own server has it: medians
of steps, without a server around them. Both run the package of PyPI with Q4_0, whose step rounds activations to 8 bits
as `light` does. The gap is the longest between two tokens of an answer while another's prompt of 2,000 tokens is read.
A first token beside a running answer is compared with its own prefill alone, in steps of that answer. Copy tasks are
edits, extracts and quotes; random weights copy nothing, so answers are dictated: the model computes every step, and the
sampler says the token that the task says. Soak: a server with the demo model (int8), clients that close, are killed or
read slowly; an answer is wrong when it is not the one given alone.""".splitlines()


@dataclass(frozen=True)
class Goal:
    what: str
    wanted: float
    unit: str
    value: Callable[[Figures], float | None]
    at_most: bool = False

    def line(self, figures: Figures) -> str:
        value = self.value(figures)
        if value is None:
            return f"| {self.what} | {self._wanted()} | not measured | – |"
        reached = value <= self.wanted if self.at_most else value >= self.wanted
        return f"| {self.what} | {self._wanted()} | {value:.3g} | {'yes' if reached else '**no**'} |"

    def _wanted(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.wanted:g} {self.unit}".rstrip()


def found(figures: Figures, key: str, **which: Any) -> float | None:
    """The figure ``key`` of the first line that is of this kind."""
    for line in figures:
        if all(line.get(name) == value for name, value in which.items()) and key in line:
            return float(line[key])
    return None


def times(clients: int, precision: str) -> Callable[[Figures], float | None]:
    return lambda figures: found(figures, "times", part="throughput", clients=clients, precision=precision)


def beside(way: str, precision: str) -> Callable[[Figures], float | None]:
    """Eight clients' tokens per second over llama.cpp's."""

    def ratio(figures: Figures) -> float | None:
        ours = found(figures, "tokens_per_s", part="throughput", clients=8, precision=precision)
        theirs = found(figures, way, part="llama.cpp")
        return None if ours is None or theirs is None else ours / theirs

    return ratio


def gain(kind: str, precision: str) -> Callable[[Figures], float | None]:
    """With lookup over without, the geometric mean of the tasks."""
    return lambda figures: found(figures, "times_of_all", part="lookup", kind=kind, precision=precision)


def soaked(key: str) -> Callable[[Figures], float | None]:
    return lambda figures: found(figures, key, part="soak")


GOALS = (
    Goal("4 clients, total over one client's, `fast`", 2, "×", times(4, "fast")),
    Goal("8 clients, total over one client's, `fast`", 2.2, "×", times(8, "fast")),
    Goal("4 clients, total over one client's, `light`", 2.6, "×", times(4, "light")),
    Goal("8 clients, total over one client's, `light`", 3.6, "×", times(8, "light")),
    *(
        Goal(f"8 clients, `{precision}` / llama.cpp, {words}", 1.5, "×", beside(way, precision))
        for way, words in (("alone", "one after the other"), ("together", "side by side"))
        for precision in PRECISIONS
    ),
    Goal("longest gap while 2,000 tokens are read", 300, "ms",
         lambda figures: thousand(found(figures, "longest_gap_s", part="stall")), at_most=True),
    Goal("first token of 32 beside a running answer, over its prefill", 1.5, "steps",
         lambda figures: found(figures, "steps", part="first"), at_most=True),
    Goal("copy tasks with lookup, `fast`", 1.6, "×", gain("copy", "fast")),
    Goal("copy tasks with lookup, `light`", 2, "×", gain("copy", "light")),
    Goal("free chat with lookup, `fast`", 0.98, "×", gain("talk", "fast")),
    Goal("free chat with lookup, `light`", 0.98, "×", gain("talk", "light")),
    Goal("soak: wrong answers", 0, "", soaked("wrong"), at_most=True),
    Goal("soak: rows that stayed taken", 0, "", soaked("leaked"), at_most=True),
    Goal("soak: growth of memory in the second half", 0.02, "", soaked("growth"), at_most=True),
)  # fmt: skip


def thousand(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def section(figures: Figures, about: Mapping[str, str]) -> str:
    """about: "machine", "date", "command"."""
    rates = [line for line in figures if line.get("part") == "throughput"]
    theirs = next((line for line in figures if line.get("part") == "llama.cpp"), None)
    listed = "; ".join(
        f"`{precision}` " + ", ".join(
            f"{line['tokens_per_s']:.3g} ({line['clients']})" for line in rates if line["precision"] == precision
        )
        for precision in PRECISIONS
    )  # fmt: skip
    other = f"; llama.cpp Q4_0 {theirs['alone']:.3g} (1), {theirs['together']:.3g} (8)" if theirs else ""
    return "\n".join([
        BEGIN, "## Many at once", "", f"{about['machine']}, {about['date']}.", "", f"    {about['command']}", "",
        "| goal | wanted | measured | reached |", "|---|---|---|---|",
        *(goal.line(figures) for goal in GOALS), "",
        f"Tokens per second of all clients together (their number): {listed}{other}.",
        *soak_line(figures), "", *METHOD, END,
    ])  # fmt: skip


def soak_line(figures: Figures) -> list[str]:
    """What the soak was."""
    run = next((line for line in figures if line.get("part") == "soak"), None)
    if run is None:
        return []
    fates = ", ".join(f"{run[fate]} {words}" for fate, words in FATES.items())
    return [f"Soak: {run['requests']} requests in {run['seconds']} s ({fates})."]
