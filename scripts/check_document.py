#!/usr/bin/env python3
"""Run the examples of the closed tool chain's document as it writes them, but for the programs' names: all is compiled.

    python scripts/check_document.py [--work FOLDER]

Five compile lines, a combine line for each pair that they make, five inference lines, each in a process of its own. The
model is the demo's first layer. Prints a line for each and exits with 1 where one fails or prints something else.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from document_examples import BLOCK, COMPILE, COMPILED, INFER, MODEL, combining, ours  # noqa: E402
from shallow import make_shallow  # noqa: E402

from glmcore import demo  # noqa: E402


def prepare(work: Path) -> None:
    """The folders that the lines name: path-to with the model, and both of its spellings for the engines."""
    if not (work / "chatglm2-6b-onnx").exists():
        make_shallow(demo.folder(), work / Path(MODEL).name, seq_length=32768)
    for name in ("path-to", "path_to"):
        if not (work / name).is_symlink():
            (work / name).symlink_to(".")


def run(line: str, work: Path) -> tuple[bool, str, float]:
    """Whether it ended well and warned of nothing, what it printed, and the processor's seconds that it took in all."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "glmcore", *ours(line)], cwd=work, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    after = os.times()
    took = after.children_user + after.children_system - before.children_user - before.children_system
    well = done.returncode == 0 and "Warning" not in done.stderr
    return well, done.stdout if well else done.stderr, took


def made(line: str, work: Path) -> Path | None:
    """The engine that a line makes; None of an inference."""
    command, *arguments = ours(line)
    if command == "combine":
        return work / arguments[arguments.index("--output") + 1]
    return work / f"{COMPILED[COMPILE.index(line)][0]}_inc.ngf" if command == "compile" else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    work = (options.work or Path(tempfile.mkdtemp(prefix="document-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    prepare(work)
    failed = 0
    for line in (*COMPILE, *(combining(name) for name, *_ in COMPILED), *INFER):
        engine = made(line, work)
        if engine is not None and engine.exists():
            continue
        started = time.monotonic()
        well, said, took = run(line, work)
        well = well and (engine.exists() if engine else re.search(BLOCK, said) is not None)
        failed += not well
        print(f"{'ran' if well else 'FAILED'} ({time.monotonic() - started:.0f} s, {took:.0f} s of CPU): {line}")
        print("" if well else said[-2000:], end="", flush=True)
    print(f"{failed} lines failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
