"""glmcore golden: in which tensor two dumps part, and by how much."""

from __future__ import annotations

import json
import math

import click

from glmcore.cli.terminal import say


def positive(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """A tolerance is a number from 0 up. Errors: click.BadParameter."""
    if value is not None and not (value >= 0 and math.isfinite(value)):
        raise click.BadParameter(f"{value} is no number from 0 up")
    return value


@click.command()
@click.argument("left", metavar="DUMP")
@click.argument("right", metavar="DUMP")
@click.option(
    "--tolerance",
    type=float,
    metavar="X",
    callback=positive,
    help="Largest absolute difference that is none. [default: 0.0002, as float32 needs; bfloat16 needs about 1]",
)
@click.option("--json", "as_json", is_flag=True)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def golden(left: str, right: str, tolerance: float | None, as_json: bool, debug: bool) -> None:
    """Compare two dumps of glmcore infer --dump-golden: ids, positions, each layer's keys and values, logits.

    In place of one a file of the original code's tensors (golden.safetensors) is taken, and an engine that was compiled
    with --golden, whose reference call it is. Names the first tensor that
    parts, in the order of computation. Exit status 0 where none does, 1 where one does, 2 where a dump cannot be read.
    """
    from glmcore.golden.compare import TOLERANCE, compare_dumps

    found = compare_dumps(left, right, TOLERANCE if tolerance is None else tolerance)
    say(json.dumps(found.to_json(), ensure_ascii=False, indent=1) if as_json else found.text())
    if not found.equal:
        raise SystemExit(1)
