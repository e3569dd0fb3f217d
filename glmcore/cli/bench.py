"""glmcore bench: tokens per second of prefill and decode, beside what the memory could give."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from glmcore.cli.options import cache_option, precision_option
from glmcore.cli.terminal import say

# Of answers side by side: more than anybody decodes on a CPU.
MOST_ROWS = 64

if TYPE_CHECKING:
    from torch import nn

    from glmcore.plan import Plan


def row_counts(context: click.Context, option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """ "1,2,4" → (1, 2, 4). Errors: click.BadParameter."""
    parts = text.split(",") if text is not None else []
    if not all(part.strip().isdigit() and 1 <= int(part) <= MOST_ROWS for part in parts):
        raise click.BadParameter(f"{text!r} is no list of numbers from 1 to {MOST_ROWS}, such as 1,2,4,8,16")
    return tuple(map(int, parts))


@click.command()
@click.argument("model", metavar="MODEL_OR_CONFIG")
@click.option("--quant", type=click.Choice(["int8", "int4"]), help="Quantise while loading.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Of what is not quantised.")
@click.option("--prompt", type=click.IntRange(3), default=512, show_default=True, help="Tokens of the prompt.")
@click.option("--generate", type=click.IntRange(1), default=64, show_default=True, help="Tokens of the answer.")
@precision_option
@cache_option
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads; the physical cores by default.")
@click.option("--plan", "plan_file", metavar="FILE", help="A placement made by glmcore plan.")
@click.option("--kernel-file", metavar="FILE", help="A ready CPU kernel in place of building one.")
@click.option("--random-weights", is_flag=True, help="Take the configuration alone, for example chatglm2-6b.")
@click.option("--batch", "batches", metavar="N,N…", callback=row_counts, help="Answers to decode side by side, too.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def bench(
    model: str,
    quant: str | None,
    dtype: str | None,
    prompt: int,
    generate: int,
    precision: str,
    cache: str | None,
    threads: int | None,
    plan_file: str | None,
    kernel_file: str | None,
    random_weights: bool,
    batches: tuple[int, ...],
    as_json: bool,
    debug: bool,
) -> None:
    """Measure prefill and decode of a checkpoint folder, or with --random-weights of a published configuration."""
    import torch

    from glmcore.bench.measure import measure
    from glmcore.bench.workloads import Workload
    from glmcore.engine.backend import describe_backend
    from glmcore.engine.load import check_cache
    from glmcore.engine.runner import Runner
    from glmcore.kernels.load import kernel_or_torch
    from glmcore.kernels.threads import default_threads
    from glmcore.machine import remember_bandwidth

    workload = Workload(prompt, generate)
    check_cache(cache, precision)
    torch.set_num_threads(threads or default_threads())
    started = time.perf_counter()
    kernel = kernel_or_torch(kernel_file, threads=threads, precision=precision)
    opening = open_random if random_weights else open_model
    computing = {"kernel": kernel, "operators": precision != "exact"}
    module, plan = opening(model, quant, dtype, plan_file, cache, workload.check, **computing)
    check_cache(plan.cache, precision)
    load_s = time.perf_counter() - started
    runner = Runner(module, module.config, plan.cache)
    figures = measure(runner, workload, backend=describe_backend(module), kernel=kernel, load_s=load_s, batches=batches)
    if runner.device.type == "cpu":
        remember_bandwidth(figures.machine_bandwidth_gb_per_s * 1e9)  # for glmcore plan, which measures nothing
    say(json.dumps(figures.to_json(), ensure_ascii=False, indent=1) if as_json else figures.text())


def open_model(model, quant, dtype, plan_file, cache, check, **computing: Any) -> tuple[nn.Module, Plan]:
    """The model of a checkpoint and its plan; ``check`` sees its configuration before anything large is read."""
    from glmcore.checkpoint import open_checkpoint
    from glmcore.checkpoint.locate import find_folder
    from glmcore.engine.placing import load_planned, plan_for
    from glmcore.place.loader import target_config

    with open_checkpoint(find_folder(model)) as checkpoint:
        check(checkpoint.config)
        config = target_config(checkpoint.config, quant)
        plan = plan_for(plan_file, config, dtype, cache)
        return load_planned(checkpoint, plan, config, **computing), plan


def open_random(model, quant, dtype, plan_file, cache, check, **computing: Any) -> tuple[nn.Module, Plan]:
    """A model with random weights at the shapes of a configuration."""
    from glmcore.bench.workloads import random_model
    from glmcore.config import find_config
    from glmcore.engine.placing import plan_for
    from glmcore.place.loader import target_config

    config = target_config(find_config(model), quant)
    check(config)
    plan = plan_for(plan_file, config, dtype, cache)
    return random_model(target_config(config, plan.quantize), plan=plan, **computing), plan
