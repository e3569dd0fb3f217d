"""Everything that needs a card, in one call: the doctor, correctness on every backend, then speed at real shapes.

    python scripts/gpu_check.py [--out FOLDER] [--seconds 460] [--cpu]

Each part (gpu_parts.py) is a process of its own with a time limit, so a part that fails, hangs or loses the card costs
its own figures alone. gpu_check.json and gpu_check.md are written anew after each part. ``--cpu`` runs the same code
on the CPU with small shapes, which checks the scripts, no speed. The golden data is looked for as the tests do
(tests/golden); small random models are compared with the CPU's own logits in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PART = Path(__file__).resolve().with_name("gpu_parts.py")
# Seconds for each part, in the order of what is most wanted.
LIMITS = {
    "machine": 45,
    "doctor": 60,
    "logits triton": 70,
    "decode fp16": 60,
    "decode int4": 60,
    "decode int8": 60,
    "prefill bf16": 45,
    "generate": 75,
    "decode int4 by cpm_kernels": 60,
    "prefill int4": 45,
    "logits cpm_kernels": 60,
    "logits torch": 45,
}
ON_CPU = [name for name in LIMITS if name not in ("logits triton", "logits cpm_kernels", "decode int4 by cpm_kernels")]
SLOWER = 4  # times these limits on a CPU that other programs use too
# What is aimed at on a card of the H200's class: (name, what is divided, by what, at least).
GOALS = (
    ("fp16 decode, share of copy bandwidth", "decode fp16 1x512 GB/s", "copy GB/s", 0.7),
    ("int4 decode over fp16", "decode int4 1x512", "decode fp16 1x512", 2.2),
    ("int8 decode over fp16", "decode int8 1x512", "decode fp16 1x512", 1.6),
    ("int4 decode over cpm_kernels", "decode int4 1x512", "decode int4 1x512 by cpm_kernels", 4.0),
    ("fp16 decode over generate()", "decode fp16 1x512", "generate fp16 1x512", 3.0),
    ("prefill of 2k tokens, share of the bf16 rate", "prefill bf16 2048 TFLOP/s", "bf16 TFLOP/s", 0.6),
)


@dataclass
class Record:
    """Figures by name, and what failed or was left out."""

    figures: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def take(self, text: str) -> None:
        """The lines that a part has written; one that was cut off in the middle is left."""
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and "figure" in found:
                self.figures[found["figure"]] = found["value"]
            elif isinstance(found, dict) and "note" in found:
                self.notes[found["note"]] = found["text"]

    @property
    def failed(self) -> bool:
        return any(note.startswith("failed") for note in self.notes.values())


def run_part(command: list[str], limit: float, folder: Path, name: str) -> tuple[str, str]:
    """What a part has written, and what is to be said of it: "" where it ended well.

    Its output goes to files, so that it is there whatever ends the process.
    """
    out, log = (folder / f"{name.replace(' ', '-')}.{kind}" for kind in ("jsonl", "log"))
    with out.open("wb") as lines, log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=lines, stderr=errors, start_new_session=True)
        try:
            code = process.wait(limit)
            said = "" if code == 0 else f"failed: ended with {code}: {last_line(log)}"
        except subprocess.TimeoutExpired:
            said = f"failed: not done after {limit:.0f} s"
        finally:
            end(process)
    return out.read_text(encoding="utf-8", errors="replace"), said


def end(process: subprocess.Popen[bytes]) -> None:
    """The part and what it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "nothing was said"


def goals(figures: dict[str, float]) -> list[dict[str, Any]]:
    """Each goal with what was reached; None where a figure is missing."""
    return [
        {"goal": name, "at_least": least, "reached": ratio(figures, above, below)}
        for name, above, below, least in GOALS
    ]


def ratio(figures: dict[str, float], above: str, below: str) -> float | None:
    return figures[above] / figures[below] if above in figures and figures.get(below) else None


def ratios(figures: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Every decode figure beside fp16, cpm_kernels, generate() and the copy bandwidth, at the same shape."""
    for name in figures:
        words = name.split()
        if words[0] != "decode" or len(words) != 3:
            continue
        kind, shape = words[1:]
        for label, above, below in (
            (f"{kind} over fp16, {shape}", name, f"decode fp16 {shape}" if kind != "fp16" else ""),
            (f"{kind} over cpm_kernels, {shape}", name, f"{name} by cpm_kernels"),
            (f"{kind} over generate(), {shape}", name, f"generate fp16 {shape}"),
            (f"{kind} share of copy bandwidth, {shape}", f"{name} GB/s", "copy GB/s"),
        ):
            found = ratio(figures, above, below)
            if found is not None:
                yield label, found


def write(folder: Path, record: Record, left: list[str]) -> dict[str, Any]:
    result = {
        "device": record.notes.get("device", "unknown"),
        "backend": record.notes.get("backend", "torch"),
        "goals": goals(record.figures),
        "ratios": dict(ratios(record.figures)),
        "figures": record.figures,
        "notes": record.notes,
        "not_run_yet": left,
    }
    replace(folder / "gpu_check.json", json.dumps(result, indent=1) + "\n")
    replace(folder / "gpu_check.md", markdown(result))
    return result


def replace(path: Path, text: str) -> None:
    """Whole or not at all: this program may be ended at any time."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def markdown(result: dict[str, Any]) -> str:
    lines = [f"# GPU check: {result['device']}", "", f"Quantised layers by {result['backend']}.", ""]
    lines += ["| goal | at least | reached |", "|---|---|---|"]
    for goal in result["goals"]:
        reached = "not measured" if goal["reached"] is None else f"{goal['reached']:.2f}"
        lines.append(f"| {goal['goal']} | {goal['at_least']} | {reached} |")
    for title, values in (("ratio", result["ratios"]), ("figure", result["figures"])):
        lines += ["", f"| {title} | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in values.items()]
    lines += ["", *(f"- {name}: {note}" for name, note in result["notes"].items())]
    lines += [f"- not run yet: {name}" for name in result["not_run_yet"]]
    return "\n".join(lines) + "\n"


def check(names: list[str], folder: Path, seconds: float, *, cpu: bool) -> Record:
    """Run the parts one after the other within the time; everything known is on disk after each."""
    record, ends = Record(), time.monotonic() + seconds
    for number, name in enumerate(names):
        left = ends - time.monotonic()
        started = time.monotonic()
        if left <= 0:
            record.notes[name] = "left out: no time left"
        else:
            command = [sys.executable, str(PART), name, *(["--cpu"] if cpu else [])]
            limit = LIMITS[name] * (SLOWER if cpu else 1)
            text, said = run_part(command, min(limit, left), folder, name)
            record.take(text)
            if said:
                record.notes[name] = said
        write(folder, record, names[number + 1 :])
        print(f"{name}: {record.notes.get(name, 'done')} ({time.monotonic() - started:.1f} s)", file=sys.stderr)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check"))
    parser.add_argument("--seconds", type=float, default=460, help="for all parts together")
    parser.add_argument("--cpu", action="store_true", help="small shapes on the CPU, to check the scripts")
    options = parser.parse_args()
    if not options.cpu and not card_present():
        sys.exit("gpu_check: torch sees no card; --cpu runs the parts that need none")
    options.out.mkdir(parents=True, exist_ok=True)
    names = ON_CPU if options.cpu else list(LIMITS)
    record = check(names, options.out, options.seconds, cpu=options.cpu)
    print((options.out / "gpu_check.md").read_text(encoding="utf-8"))
    sys.exit(record.failed)


def card_present() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    main()
