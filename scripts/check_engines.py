#!/usr/bin/env python3
"""Compile an engine of every golden case in every type, and hold its greedy tokens against those of a run without one.

    python scripts/check_engines.py [--only v2/base] [--type int4] [--work FOLDER] [--uncompiled] [--split]

Prints a line for each and exits with 1 where tokens differ. A pair of graphs takes some 50 s of CPU, two at once; what
is finished is kept in --work and used again. --uncompiled runs the graphs' modules without compiling them: seconds for
all of them. --split shares each model over two logical devices, and holds the bytes that published models would take
there against the plan's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from golden_cases import CASES, GOLDEN  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from glmcore.checkpoint import open_checkpoint  # noqa: E402
from glmcore.compiled import operators  # noqa: E402
from glmcore.compiled.make import compile_engine  # noqa: E402
from glmcore.compiled.modules import uncompiled  # noqa: E402
from glmcore.compiled.opened import Opened  # noqa: E402
from glmcore.compiled.opening import open_engine  # noqa: E402
from glmcore.compiled.request import Request  # noqa: E402
from glmcore.compiled.stages import stages_of  # noqa: E402
from glmcore.compiled.weights import constants  # noqa: E402
from glmcore.config import NAMED  # noqa: E402
from glmcore.engine.runner import Runner  # noqa: E402
from glmcore.kernels.load import load_kernel  # noqa: E402
from glmcore.layout import piece_of  # noqa: E402
from glmcore.place.loader import load_model, target_config  # noqa: E402
from glmcore.plan import Device, Precision, make_plan  # noqa: E402

# What is computed in, and what the layers are quantised to.
TYPES = {
    "fp32": ("float32", None),
    "bf16": ("bfloat16", None),
    "int8": ("float32", "int8"),
    "int4": ("float32", "int4"),
}
# A prompt that is longer goes in rounds, but for ChatGLM-6B's, which sees itself both ways.
PRE_LEN, BOTH_WAYS, TOTAL, STEPS = 16, 40, 80, 24
WITHIN = 0.03  # of the planned bytes
FAMILY = sorted(f"family/{path.name}" for path in (GOLDEN / "family").iterdir() if path.is_dir())


def prompt_of(case: str) -> list[int]:
    """The prompt of a case's own results."""
    if case in FAMILY:
        return load_file(GOLDEN / case / "results.safetensors")["input_ids"][0].tolist()
    return load_file(GOLDEN / case / "golden.safetensors")["prompt.input_ids"][0].tolist()


def request_of(case: str, kind: str, split: bool) -> Request | None:
    """The engine of a case in a type; None where its checkpoint is quantised otherwise."""
    dtype, quantize = TYPES[kind]
    with open_checkpoint(GOLDEN / case) as checkpoint:
        stored = checkpoint.config.quantization_bit
        if stored and quantize != f"int{stored}":
            return None
        config = target_config(checkpoint.config, quantize)
    devices = [Device(name, 1 << 40) for name in (("cpu:0", "cpu:1") if split else ("cpu",))]
    plan = make_plan(config, devices, strategy="equal", precision=Precision.of(config, dtype), context=TOTAL)
    pre_len = PRE_LEN if config.traits.causal else BOTH_WAYS
    return Request(config, plan, case, pre_len, TOTAL, (1, 1), ("prefill", "decode"))


def greedy(step, first: torch.Tensor) -> Iterator[int]:
    """The likeliest token, and what follows it."""
    logits = first
    for _ in range(STEPS):
        token = int(logits.argmax())
        yield token
        logits = step(token)


def engineless(case: str, request: Request, precision: str) -> list[int]:
    kernel = load_kernel(precision=precision)
    model = load_model(GOLDEN / case, plan=request.plan, kernel=kernel)
    runner = Runner(model, model.config)
    return list(greedy(runner.decode, runner.prefill(prompt_of(case))))


def by_engine(engine: Opened, prompt: list[int]) -> list[int]:
    caches = engine.caches()
    return list(greedy(lambda token: engine.decode([token], caches)[0], engine.prefill([prompt], caches)[0]))


def opened(case: str, kind: str, request: Request, work: Path, precision: str, compiling: bool) -> Opened:
    with open_checkpoint(GOLDEN / case) as checkpoint:
        if not compiling:
            operators.computing.use(load_kernel(precision=precision))
            return uncompiled(request, checkpoint, work)
        split = "-split" if len(request.stages) > 1 else ""
        folder = work / f"{case.replace('/', '-')}-{kind}{split}"
        if not folder.exists():
            compile_engine(request, folder, checkpoint)
    return open_engine(folder, precision=precision)


def beyond_plan(name: str, kind: str) -> float:
    """By which share of the planned bytes those of a published model's weights and caches differ, on the worst device.

    What an engine of its shapes would lay there is counted, not laid there.
    """
    dtype, quantize = TYPES[kind]
    config = target_config(NAMED[name], quantize)
    devices = [Device(device, 1 << 50) for device in ("cpu:0", "cpu:1")]
    plan = make_plan(config, devices, strategy="equal", precision=Precision.of(config, dtype), context=2048)
    found = {device.name: 0 for device in devices}
    for constant, info in constants(None, config, plan).items():
        found[plan.placement[piece_of(config, constant).name]] += info.nbytes
    for stage in stages_of(config, plan.placement, plan.types):
        values = config.num_kv_heads * (plan.context + 1) * config.head_dim
        found[stage.device] += len(stage.caches) * values * getattr(torch, stage.cache).itemsize
    return max(abs(found[each.name] / (each.weights_bytes + each.kv_cache_bytes) - 1) for each in plan.devices)


def check_bytes() -> int:
    """How many published models, in how many types, would take other bytes than planned."""
    failed = 0
    for name in NAMED:
        for kind in TYPES:
            beyond = beyond_plan(name, kind)
            failed += beyond > WITHIN
            print(f"{name:28} {kind} in two: within {beyond:.3%} of the planned bytes", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="CASE")
    parser.add_argument("--type", action="append", choices=list(TYPES))
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--precision", action="append", choices=["exact", "fast", "light"])
    parser.add_argument("--uncompiled", action="store_true")
    parser.add_argument("--split", action="store_true")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="engines-"))
    failed = done = 0
    for case in options.only or [*CASES, *FAMILY]:
        for kind in options.type or TYPES:
            request = request_of(case, kind, options.split)
            for precision in (options.precision or ["exact", "fast"]) if request else []:
                started = time.monotonic()
                wanted = engineless(case, request, precision)
                engine = opened(case, kind, request, work, precision, not options.uncompiled)
                found = by_engine(engine, prompt_of(case))
                same = found == wanted
                done, failed = done + 1, failed + (not same)
                parts = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b), None)
                said = "equal" if same else f"part at token {parts}"
                print(f"{case:28} {kind} {precision:5} {said} ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"{done - failed} of {done} give the tokens of the run without an engine")
    return int(failed + (check_bytes() if options.split else 0) > 0)


if __name__ == "__main__":
    sys.exit(main())
