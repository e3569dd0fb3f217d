"""Our whole model with random weights, or a checkpoint's loading, measured in this process.

python ours.py model TASK_JSON      {"model", "quant", "precisions", "threads", "lengths", "steps", "contexts",
                                 "rows"}
python ours.py load FOLDER THREADS
python ours.py demo THREADS
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from glmcore import demo
from glmcore.bench.batches import measure_batches
from glmcore.bench.measure import WARM_UP, bytes_per_token, peak_rss, run, weight_bytes
from glmcore.bench.workloads import Workload, prompt_ids, random_model
from glmcore.checkpoint.memory import huge_empty
from glmcore.config import ModelConfig, find_config
from glmcore.engine.runner import Runner
from glmcore.kernels.load import Kernel, load_kernel
from glmcore.place.loader import load_model, target_config

BATCHED = ("fast", "light")
READ_BYTES = 256 * 2**20  # larger than any cache of a processor


def step_seconds(runner: Runner, steps: int) -> float:
    """The median of so many tokens after what the cache holds."""
    taken = []
    for token in prompt_ids(runner.config, steps, seed=1):
        started = time.perf_counter()
        runner.decode(token).argmax()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def steps_and_reads(runner: Runner, steps: int, kernel: Kernel) -> tuple[float, float]:
    """The median seconds of so many tokens, and the median share of a token's time that reading its bytes takes: each
    is followed by reading memory alone, so that both see the machine in the same second."""
    memory, size = huge_empty([READ_BYTES], torch.int8).fill_(1), bytes_per_token(runner, Workload(128, steps))
    taken, shares = [], []
    for token in prompt_ids(runner.config, steps, seed=1):
        started = time.perf_counter()
        runner.decode(token).argmax()
        taken.append(time.perf_counter() - started)
        shares.append(size / kernel.read_bandwidth(memory) / 1e9 / taken[-1])
    return statistics.median(taken), statistics.median(shares)


def whole_model(task: dict) -> dict:
    """Prefill of each length and decode after the shortest in each precision; in the first also after ``contexts``,
    with keys and values in float32 and in bfloat16."""
    torch.set_num_threads(task["threads"])
    kernel = load_kernel(threads=task["threads"])
    asked = task["model"]
    config = ModelConfig.from_dict(asked) if isinstance(asked, dict) else find_config(asked)
    config = target_config(config, task["quant"])
    model = random_model(config, kernel=kernel)
    figures = {precision: in_precision(model, config, kernel, precision, task) for precision in task["precisions"]}
    return figures | ({"step_cost": step_costs(model, config, kernel, task)} if task["rows"] else {})


def step_costs(model: nn.Module, config: ModelConfig, kernel: Kernel, task: dict) -> dict:
    """What a step of several answers costs against one of a single row, in the precisions made for it."""
    costs = {}
    for kernel.precision in BATCHED:
        batches = measure_batches(Runner(model, config), task["rows"], min(task["lengths"]))
        costs[kernel.precision] = {str(batch.rows): batch.step_cost for batch in batches}
    return costs


def in_precision(model: nn.Module, config: ModelConfig, kernel: Kernel, precision: str, task: dict) -> dict:
    kernel.precision = precision
    runner = Runner(model, config)
    run(runner, WARM_UP, seed=1)
    prefill = {}
    for length in sorted(task["lengths"], reverse=True):
        started = time.perf_counter()
        runner.prefill(prompt_ids(config, length, seed=length)).argmax()
        prefill[str(length)] = length / (time.perf_counter() - started)
    seconds, share = steps_and_reads(runner, task["steps"], kernel)
    decode = 1 / seconds
    read = bytes_per_token(runner, Workload(min(task["lengths"]), task["steps"]))
    macs = sum(m.weight.numel() * 8 // m.bits for m in model.layers.modules() if hasattr(m, "weight_scale"))
    needed = weight_bytes(model) + runner.cache.nbytes
    figures = {
        "prefill": prefill, "operations_per_token": 2 * macs, "decode": decode,
        "bytes_per_token": read, "gb_per_s": decode * read / 1e9, "share": share,
        "needed_bytes": needed,
    }  # fmt: skip
    if precision != task["precisions"][0]:
        return figures
    # Before the long contexts, and once; what is read to find the bandwidth is no part of the model's.
    figures |= {"peak_ratio": (peak_rss() - READ_BYTES) / needed, "peak_bytes": peak_rss() - READ_BYTES}
    for kept in ("float32", "bfloat16") if task["contexts"] else ():
        runner = Runner(model, config, kept)
        figures[f"decode_{kept}"] = {str(length): rate_after(runner, length, task) for length in task["contexts"]}
    return figures


def rate_after(runner: Runner, length: int, task: dict) -> float:
    """Tokens/s of decoding after so many tokens."""
    fill(runner, length)
    return 1 / step_seconds(runner, task["steps"])


def fill(runner: Runner, length: int) -> None:
    """As if ``length`` tokens had gone through: the cache's speed does not depend on its values."""
    runner.way.rows.make_room(length + 64)
    for tensor in (*runner.cache.keys, *runner.cache.values):
        tensor.normal_()
    runner.way.rows.hold(0, prompt_ids(runner.config, length))


def loading(folder: str, threads: int) -> dict:
    """Seconds of loading, Python and torch being there already, and with a first prompt, which reads it all."""
    torch.set_num_threads(threads)
    kernel = load_kernel(threads=threads)
    started = time.perf_counter()
    model = load_model(folder, kernel=kernel)
    loaded = time.perf_counter()
    run(Runner(model, model.config), Workload(8, 1), seed=1)
    return {"seconds": loaded - started, "with_prompt": time.perf_counter() - started}


def demo_speed(threads: int) -> dict:
    """Tokens/s of the demo model's decoding."""
    torch.set_num_threads(threads)
    model = load_model(demo.folder(), kernel=load_kernel(threads=threads))
    runner = Runner(model, model.config)
    run(runner, WARM_UP, seed=1)
    runner.prefill(prompt_ids(model.config, 32))
    return {"decode": 1 / step_seconds(runner, 200)}


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "model":
        result = whole_model(json.loads(rest[0]))
    elif what == "load":
        result = loading(rest[0], int(rest[1]))
    else:
        result = demo_speed(int(rest[0]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
