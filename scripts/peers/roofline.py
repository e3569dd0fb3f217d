"""Draw what a run measured: operations per byte against operations per second. Run by an interpreter with matplotlib.

python roofline.py FILE < POINTS_JSON
"""

from __future__ import annotations

import json
import sys

import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.rcParams["svg.hashsalt"] = "roofline"  # the same picture for the same figures

MARKS = "osD^vP*X<>"


def draw(measured: dict, target: str) -> None:
    limits, points = measured["limits"], measured["points"]
    figure = Figure(figsize=(10, 5.5))
    axes = figure.subplots()
    reach = np.geomspace(min(x for _, _, x, _ in points) / 2, max(x for _, _, x, _ in points) * 2, 200)
    for key, name, style in (("integer_peak", "integer products", "-"), ("float_peak", "float32 FMA", "--")):
        axes.plot(reach, np.minimum(reach * limits["bandwidth"], limits[key]) / 1e9, "k" + style, lw=1, label=name)
    names = list(dict.fromkeys(name for name, *_ in points))
    for i, name in enumerate(names):
        own = [(x, y / 1e9) for other, _, x, y in points if other == name]
        axes.plot(*zip(*own, strict=True), MARKS[i % len(MARKS)], ms=7, color=f"C{i}", label=name, alpha=0.85)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of weights read", ylabel="GOP/s")
    axes.set_title("Decoding at the left, prompts at the right", fontsize=10)
    axes.grid(True, which="both", lw=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.load(sys.stdin), sys.argv[1])
