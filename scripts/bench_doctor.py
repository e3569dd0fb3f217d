"""How long the doctor takes, beside the usual way to describe a machine (``python -m torch.utils.collect_env``).

Whole processes, run in turn so that a change of the machine's speed meets all of them; medians are what counts.

    python scripts/bench_doctor.py [--runs 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "glmdoctor --help": [sys.executable, "-m", "glmdoctor", "--help"],
    "glmdoctor check": [sys.executable, "-m", "glmdoctor", "check"],
    "torch.utils.collect_env": [sys.executable, "-m", "torch.utils.collect_env"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    for command in COMMANDS.values():  # fills the kernel cache and the page cache
        seconds(command)
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(runs):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
        print(f"\rround {number + 1} of {runs}", end="", file=sys.stderr)
    print(file=sys.stderr)
    slowest = statistics.median(taken["torch.utils.collect_env"])
    print(f"{'command':26} {'min':>7} {'median':>7} {'max':>7}  collect_env is")
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"{name:26} {min(values):6.3f}s {median:6.3f}s {max(values):6.3f}s  {slowest / median:.1f} x this")


if __name__ == "__main__":
    main()
