"""Times a runner over a workload, and how fast the memory under it can be read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import nn

from glmcore.bench.batches import measure_batches
from glmcore.bench.report import Figures
from glmcore.bench.workloads import Workload, prompt_ids
from glmcore.engine.runner import Runner
from glmcore.kernels.load import Kernel

# Larger than any cache of a processor, small beside a model.
READ_BYTES = 256 * 2**20
ROUNDS = 4
WARM_UP = Workload(8, 2)


def measure(
    runner: Runner,
    workload: Workload,
    *,
    backend: str,
    kernel: Kernel | None,
    load_s: float,
    batches: Sequence[int] = (),
) -> Figures:
    """Run the workload once after a short warm-up, greedily. Times are wall time, with every device idle again.

    batches: numbers of answers whose decoding side by side is measured too, after the prompt's length.
    """
    workload.check(runner.config)
    run(runner, WARM_UP, seed=1)
    prefill_s, decode_s = run(runner, workload, seed=0)
    peak = peak_rss()  # before memory is taken for measuring the machine
    decode_rate = (workload.generate - 1) / decode_s if workload.generate > 1 else 0.0
    return Figures(
        model=runner.config.name,
        backend=backend,
        prompt=workload.prompt,
        generate=workload.generate,
        prefill_tokens_per_s=workload.prompt / prefill_s,
        decode_tokens_per_s=decode_rate,
        time_to_first_token_s=prefill_s,
        weight_bytes=weight_bytes(runner.model),
        bandwidth_gb_per_s=decode_rate * bytes_per_token(runner, workload) / 1e9,
        machine_bandwidth_gb_per_s=read_bandwidth(runner.device, kernel) / 1e9,
        peak_rss_bytes=peak,
        load_s=load_s,
        batches=measure_batches(runner, batches, workload.prompt) if batches else (),
    )


def run(runner: Runner, workload: Workload, seed: int) -> tuple[float, float]:
    """Seconds until the first token is known, and seconds for the others."""
    prompt = prompt_ids(runner.config, workload.prompt, seed)
    synchronize(runner.device)
    started = time.perf_counter()
    token = int(runner.prefill(prompt).argmax())
    first_known = time.perf_counter()
    for _ in range(workload.generate - 1):
        token = int(runner.decode(token).argmax())
    return first_known - started, time.perf_counter() - first_known


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, shared ones once."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensors.values())


def bytes_per_token(runner: Runner, workload: Workload) -> float:
    """What one step of decoding reads: every weight but an embedding's that is not the head too, and half the way
    through the answer the filled cache."""
    model, cache = runner.model, runner.cache
    table = sum(tensor.nbytes for tensor in (*model.embedding.parameters(), *model.embedding.buffers()))
    looked_up = 0 if runner.config.tie_embeddings else table
    filled = workload.prompt + workload.generate / 2
    return weight_bytes(model) - looked_up + cache.nbytes / cache.capacity * filled


def read_bandwidth(device: torch.device, kernel: Kernel | None) -> float:
    """Bytes/s: on the CPU the best of a few rounds of reading, on a card of copying (read and written counted)."""
    if device.type == "cuda":
        source = torch.empty(READ_BYTES, dtype=torch.int8, device=device)
        target = torch.empty_like(source)
        return 2 * READ_BYTES / best(lambda: (target.copy_(source), synchronize(device)))
    data = torch.ones(READ_BYTES // 8, dtype=torch.int64)
    if kernel is None:
        return READ_BYTES / best(data.sum)
    return max(kernel.read_bandwidth(data) for _ in range(ROUNDS)) * 1e9


def best(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest of a few rounds."""
    times: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def peak_rss() -> int:
    """The largest resident set of this process so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
