"""Measure loading, quantising and one forward at the true sizes, with random weights.

    python scripts/bench_load.py [NAME …] --work FOLDER [--into docs/benchmarks.md]

For each model: a float checkpoint is written, loaded and quantised to int4 on the way, quantised to disk, and the int4
checkpoint loaded from the page cache; each in a process of its own, whose peak memory is the kernel's figure. FOLDER
needs some 25 GB, which are freed again. ``--into`` replaces the section between the two markers of that file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from sections import put_into

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chatglm-6b", "chatglm2-6b", "chatglm3-6b", "glm-4-9b")
BEGIN, END = "<!-- loading: begin -->", "<!-- loading: end -->"
PROMPT, TOKENS = 32, 5  # how many tokens go in at once, and then one by one
MIB = 2**20


def memory(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def load(folder: str, quantize: str | None) -> dict[str, float]:
    """Load in this process, then one forward of a prompt and the best of a few of single tokens."""
    import torch

    from glmcore.kernels.load import load_kernel
    from glmcore.kernels.threads import default_threads
    from glmcore.models.cache import KVCache
    from glmcore.models.inputs import PositionState
    from glmcore.place import load_model

    torch.set_num_threads(default_threads())
    kernel = load_kernel()
    before, started, worked = memory("VmRSS"), time.perf_counter(), time.process_time()
    model = load_model(folder, quantize=quantize, kernel=kernel)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    figures = {
        "seconds": seconds, "cpu": cpu, "model": held,
        "rss": memory("VmRSS"), "peak": memory("VmHWM"), "before": before,
        "largest": max(tensor.nbytes for tensor in (*model.parameters(), *model.buffers())),
    }  # fmt: skip
    ids = torch.arange(1000, 1000 + PROMPT)[None]
    state, cache = PositionState(model.config, ids), KVCache(model.config, 1, PROMPT + TOKENS)
    with torch.inference_mode():
        started = time.perf_counter()
        assert model(ids, cache=cache, last_only=True, **state.prompt()).isfinite().all()
        figures["prompt"] = time.perf_counter() - started
        figures["token"] = min(timed_step(model, cache, state) for _ in range(TOKENS))
    return figures


def timed_step(model, cache, state) -> float:
    """Seconds for one more token."""
    import torch

    from glmcore.models.inputs import step_inputs

    token, started = torch.tensor([[1000]]), time.perf_counter()
    model(token, cache=cache, last_only=True, **step_inputs(state, token))
    return time.perf_counter() - started


def quantize(folder: str, target: str) -> dict[str, float]:
    """``glmcore quantize`` in this process."""
    from glmcore.checkpoint import open_checkpoint
    from glmcore.place import quantize_checkpoint

    started, worked = time.perf_counter(), time.process_time()
    with open_checkpoint(folder) as source:
        quantize_checkpoint(source, target, "int4")
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return {"seconds": seconds, "cpu": cpu, "peak": memory("VmHWM")}


def alone(*arguments: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def warm(folder: Path) -> None:
    """Read every file once, so that the page cache holds what it can."""
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(8 * MIB):
                pass


def measure(name: str, work: Path) -> dict[str, dict[str, float]]:
    """All figures of one model."""
    floats, packed = work / name, work / f"{name}-int4"
    try:
        subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "make_random_checkpoint.py"), name, str(floats)], check=True
        )
        figures = {"files": {"floats": size(floats)}}
        warm(floats)
        figures["on the way"] = alone("--load", str(floats), "--quant", "int4")
        figures["to disk"] = alone("--quantize", str(floats), str(packed))
        figures["files"]["int4"] = size(packed)
        shutil.rmtree(floats)
        warm(packed)
        figures["int4"] = alone("--load", str(packed))
        return figures
    finally:
        for folder in (floats, packed):
            shutil.rmtree(folder, ignore_errors=True)


def gb(value: float) -> str:
    return f"{value / 1e9:.2f}"


def section(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The section of the document, with what was measured on and how."""
    linux = platform.release().partition("-")[0]
    lines = [
        BEGIN,
        "## Loading at the true sizes",
        "",
        f"Random weights, {datetime.date.today().isoformat()}, {cpu_name()}, {os.cpu_count()} cores, "
        f"{memory_total() / 2**30:.0f} GiB, Python {platform.python_version()}, Linux {linux}. Sizes are",
        "in GB (10⁹ bytes); RSS and peak include Python and torch, whose RSS before loading is in the column *before*.",
        "The files lay in the page cache as far as it held them. Other programs were running:",
        "*CPU* is the work of both cores together; divided by two it is about what an idle machine would need.",
        "",
        f"    python scripts/bench_load.py {' '.join(results)} --work FOLDER --into docs/benchmarks.md",
        "",
        "**An int4 checkpoint**",
        "",
        "| model | file | load, s | CPU, s | model | before | RSS | RSS / file | prompt of 32, s | a token, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        own, file = found["int4"], found["files"]["int4"]
        lines.append(
            f"| {name} | {gb(file)} | {own['seconds']:.1f} | {own['cpu']:.1f} | {gb(own['model'])} "
            f"| {gb(own['before'])} | {gb(own['rss'])} | {own['rss'] / file:.2f} "
            f"| {own['prompt']:.1f} | {own['token']:.2f} |"
        )
    lines += [
        "",
        "**A float checkpoint (fp16; GLM-4 bf16), quantised to int4 while loading, and to disk**",
        "",
        "| model | file | load, s | CPU, s | model | largest tensor | peak | bound | to disk, s | CPU, s | peak |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        own, disk = found["on the way"], found["to disk"]
        lines.append(
            f"| {name} | {gb(found['files']['floats'])} | {own['seconds']:.1f} | {own['cpu']:.1f} | {gb(own['model'])} "
            f"| {gb(own['largest'])} | {gb(own['peak'])} | {gb(1.15 * own['model'] + own['largest'])} "
            f"| {disk['seconds']:.1f} | {disk['cpu']:.1f} | {gb(disk['peak'])} |"
        )
    lines += [
        "",
        "*bound* is 1.15 times the quantised model plus its largest tensor. The figures that were published for the",
        "original code with ChatGLM-6B are 15-20 s and 8.5 GB for the int4 checkpoint, 140-250 s and 14.5 GB for fp16.",
        END,
    ]
    return "\n".join(lines)


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_total() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(NAMES))
    parser.add_argument("--work", type=Path, help="folder for the checkpoints")
    parser.add_argument("--into", type=Path, help="document whose section is replaced")
    parser.add_argument("--load", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--quant", help=argparse.SUPPRESS)
    parser.add_argument("--quantize", nargs=2, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(options.load, options.quant)))
    elif options.quantize:
        print(json.dumps(quantize(*options.quantize)))
    elif options.work is None:
        parser.error("--work is needed")
    else:
        results = {}
        for name in options.names:
            results[name] = measure(name, options.work)
            print(json.dumps({name: results[name]}), flush=True)
        text = section(results)
        print(text)
        if options.into:
            put_into(options.into, BEGIN, END, text)


if __name__ == "__main__":
    main()
