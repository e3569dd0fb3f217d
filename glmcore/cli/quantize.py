"""glmcore quantize: an int8 or int4 checkpoint in the original layout."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from glmcore.cli.terminal import say
from glmcore.plan import format_size, parse_size


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--quant", type=click.Choice(["int8", "int4"]), required=True)
@click.option("--tables", type=click.Choice(["int8", "int4"]), help="Of embedding and head too; for glmcore alone.")
@click.option("-o", "--output", metavar="DIR", required=True, help="An empty folder, or one that an earlier run left.")
@click.option("--shard-size", default="2GB", show_default=True, metavar="SIZE", help="Largest size of a weight file.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def quantize(model: str, quant: str, tables: str | None, output: str, shard_size: str, debug: bool) -> None:
    """Write MODEL (a checkpoint folder) as int8 or int4 to another folder. A run that was stopped goes on."""
    from glmcore.checkpoint import open_checkpoint
    from glmcore.checkpoint.locate import find_folder
    from glmcore.cli.loading import Progress
    from glmcore.place import quantize_checkpoint

    limit = parse_size(shard_size)
    progress = Progress(sys.stderr, "quantising") if sys.stderr.isatty() else None
    with open_checkpoint(find_folder(model)) as source:
        before = source.nbytes
        quantize_checkpoint(source, output, quant, tables=tables, shard_bytes=limit, progress=progress)
    with open_checkpoint(output) as written:
        say(
            f"wrote {Path(output)}: {format_size(written.nbytes)} of weights in {quant}, {format_size(before)} before"
        )
