"""glmcore plan: which device holds which piece, without loading anything."""

from __future__ import annotations

import json

import click

from glmcore.cli.options import cache_option
from glmcore.cli.terminal import say
from glmcore.config import ModelConfig, find_config
from glmcore.errors import GlmError
from glmcore.output import write_text
from glmcore.plan import (
    NUMBERED,
    STRATEGIES,
    Device,
    DevicePlan,
    Plan,
    Precision,
    format_size,
    make_plan,
    manual_placement,
    parse_device,
)
from glmcore.plan.reasons import describe_pieces

BAR_WIDTH = 40


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--device",
    "written",
    multiple=True,
    metavar="NAME=SIZE[@BANDWIDTH]",
    help="For example cuda:0=7GiB, cpu=16GiB@20GB; the machine's own by default.",
)
@click.option(
    "--strategy",
    type=click.Choice([*STRATEGIES, *NUMBERED]),
    help="[default: greedy, manual with --layers]; 0, 1 and 2 stand for the first three.",
)
@click.option("--layers", multiple=True, metavar="NAME=RANGES", help="By hand: cuda:0=1-14, counted from 1.")
@click.option("--embeddings", metavar="NAME", help="By hand. [default: where layer 1 is]")
@click.option("--final-layernorm", metavar="NAME", help="By hand. [default: where the last layer is]")
@click.option("--quant", type=click.Choice(["int8", "int4"]))
@click.option("--dtype", type=click.Choice(["float16", "bfloat16", "float32"]), help="[default: the checkpoint's]")
@cache_option
@click.option("--context", type=click.IntRange(1), help="Tokens to keep in the cache. [default: 2048 or the model's]")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--explain", is_flag=True, help="Say why each piece is where it is.")
@click.option("-o", "--output", metavar="FILE", help="Save the plan for --plan of chat and bench.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def plan(
    model: str,
    written: tuple[str, ...],
    strategy: str | None,
    layers: tuple[str, ...],
    embeddings: str | None,
    final_layernorm: str | None,
    quant: str | None,
    dtype: str | None,
    cache: str | None,
    context: int | None,
    batch: int,
    as_json: bool,
    explain: bool,
    output: str | None,
    debug: bool,
) -> None:
    """Say which device holds which piece of MODEL (a checkpoint folder or a name such as chatglm2-6b)."""
    config = find_config(model)
    devices = given_devices(written) or default_devices()
    placement = placed_by_hand(config, layers, embeddings, final_layernorm)
    made = make_plan(
        config,
        devices,
        strategy=strategy or ("greedy" if placement is None else "manual"),
        placement=placement,
        precision=precision_for(config, quant, dtype, cache),
        context=context or min(2048, config.max_length),
        batch=batch,
    )
    text = json.dumps(made.to_json(), ensure_ascii=False, indent=1)
    if output:
        if not made.fits:
            raise GlmError("plan-invalid", "a plan that does not fit is not saved", hint="; ".join(made.would_fit))
        write_text(output, text + "\n")
    say(text if as_json else table(made, explain))
    if not made.fits:
        raise SystemExit(1)


def placed_by_hand(
    config: ModelConfig, layers: tuple[str, ...], embeddings: str | None, final_layernorm: str | None
) -> dict[str, str] | None:
    """Piece → device of --layers, --embeddings and --final-layernorm; None where no range is given.

    Errors: GlmError("usage") for one without the others, and those of ``manual_placement``.
    """
    if not layers:
        if embeddings or final_layernorm:
            raise GlmError("usage", "--embeddings and --final-layernorm go with --layers", hint="--layers cuda:0=1-14")
        return None
    ranges: dict[str, str] = {}
    for entry in layers:
        device, _, part = entry.partition("=")
        ranges[device] = f"{ranges[device]},{part}" if device in ranges else part
    first = next(iter(ranges))
    placement = manual_placement(config, embeddings or first, ranges, final_layernorm or first)
    # Where nothing is said, the ends sit with the layers beside them.
    before = embeddings or placement["layer.0"]
    after = final_layernorm or placement[f"layer.{config.num_layers - 1}"]
    return manual_placement(config, before, ranges, after)


def given_devices(written: tuple[str, ...]) -> list[Device]:
    """The devices of --device, with this machine's bandwidth where none is written."""
    from glmcore.machine import bandwidths, with_bandwidth

    devices = [parse_device(entry) for entry in written]
    known = bandwidths() if any(device.bandwidth is None for device in devices) else {}
    return [with_bandwidth(device, known) for device in devices]


def default_devices() -> list[Device]:
    from glmcore.machine import present_devices

    return present_devices()


def precision_for(config: ModelConfig, quant: str | None, dtype: str | None, cache: str | None) -> Precision:
    """As the loader would hold it: --quant, else what the checkpoint itself is."""
    return Precision.of(config, dtype or config.dtype, int(quant.removeprefix("int")) if quant else 0, cache)


def table(made: Plan, explain: bool) -> str:
    """The plan for people: a line and a bar for each device."""
    head = f"{made.model} ({made.generation}), {made.quantize or made.dtype}, context {made.context}, {made.strategy}"
    if not made.fits:
        lines = [head, f"does not fit: {format_size(made.missing_bytes)} are missing ({made.reasons[0]})"]
        return "\n".join([*lines, "would fit:", *(f"  {option}" for option in made.would_fit)])
    lines = [head, ""]
    for share in made.devices:
        lines.append(
            f"{share.name:8} {bar(share)} {format_size(share.total_bytes)} of {format_size(share.budget_bytes)}"
        )
        lines.append(
            f"{'':8} weights {format_size(share.weights_bytes)}, cache {format_size(share.kv_cache_bytes)}, "
            f"workspace {format_size(share.workspace_bytes)}; {describe_pieces(share) or 'nothing'}"
        )
    lines += ["", f"{made.hops} hop(s), longest context {made.max_context}, {speed(made)}"]
    if explain:
        lines += ["", *made.reasons]
    else:
        lines += ["bar: # weights, = cache, + workspace, . free"]
    return "\n".join(lines)


def speed(made: Plan) -> str:
    """The decode speed that reading allows, or for which devices it is not known how fast they read."""
    if made.tokens_per_s:
        return f"about {made.tokens_per_s:.1f} tokens/s by bandwidth"
    unknown = ", ".join(share.name for share in made.devices if share.pieces and not share.bandwidth)
    return f"decode speed unknown (no bandwidth for {unknown}: write NAME=SIZE@BANDWIDTH)"


def bar(share: DevicePlan) -> str:
    """A device's budget as a row of marks."""
    kinds = (("#", share.weights_bytes), ("=", share.kv_cache_bytes), ("+", share.workspace_bytes))
    marks = "".join(mark * round(size / share.budget_bytes * BAR_WIDTH) for mark, size in kinds)[:BAR_WIDTH]
    return "[" + marks.ljust(BAR_WIDTH, ".") + "]"
