"""glmcore download: a checkpoint from the hub or a mirror of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from glmcore.cli.terminal import say
from glmcore.plan import format_size


@click.command()
@click.argument("name", metavar="NAME")
@click.option("-o", "--output", metavar="DIR", help="[default: a folder with the model's name, here]")
@click.option("--file", "files", metavar="FILE", multiple=True, help="This file alone; as often as wanted.")
@click.option("--endpoint", metavar="URL", help="A mirror in place of the hub. [default: HF_ENDPOINT, else the hub]")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def download(name: str, output: str | None, files: tuple[str, ...], endpoint: str | None, debug: bool) -> None:
    """Fetch NAME (chatglm2-6b, or OWNER/NAME). A download that was cut goes on; every file is verified."""
    from glmcore.checkpoint import open_checkpoint
    from glmcore.checkpoint.download import download as fetch
    from glmcore.cli.loading import Progress

    progress = Progress(sys.stderr, "downloading") if sys.stderr.isatty() else None
    folder = Path(output or name.rstrip("/").rpartition("/")[2])
    fetch(name, folder, only=files, endpoint=endpoint, progress=progress)
    if files:
        say(f"{folder}: {', '.join(files)}, verified")
        return
    with open_checkpoint(folder) as checkpoint:
        say(f"{folder}: {checkpoint.config.name}, {format_size(checkpoint.nbytes)} of weights, verified")
