"""glmcore serve: an OpenAI-compatible server for one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from glmcore.cli.options import Decorator, model_options
from glmcore.errors import GlmError
from glmcore.plan.devices import parse_size
from glmcore.server.address import as_host, bind, is_loopback
from glmcore.server.waits import WAITING


class Parallel(click.ParamType):
    """A number from 1 to 64, or "auto": as many as memory and the kernel are for."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value in ("auto", None) else click.IntRange(1, 64).convert(value, param, ctx)


class Size(click.ParamType):
    """Bytes, written as "512MiB"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return parse_size(value)


def serving_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All that serving needs beside the model: from --host to --allowed-host."""
    options: list[Decorator] = [
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on."),
        click.option(
            "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one."
        ),
        click.option(
            "--api-key", metavar="KEY", envvar="GLMCORE_API_KEY", help="Clients must send it. [env: GLMCORE_API_KEY]"
        ),
        click.option(
            "--queue", type=click.IntRange(0), default=WAITING, show_default=True, help="Answers that may wait."
        ),
        click.option(
            "--parallel", type=Parallel(), default="auto", show_default=True, metavar="auto|N",
            help="Answers made at once.",
        ),
        click.option(
            "--context", type=click.IntRange(2), metavar="N",
            help="Tokens of a prompt and its answer.  [default: what fits]",
        ),
        click.option(
            "--max-stall", type=click.IntRange(1), default=250, show_default=True, metavar="MS",
            help="How long answers wait for a piece of another's prompt.",
        ),
        click.option(
            "--prefix-cache", type=Size(), default="256MiB", show_default=True, metavar="SIZE",
            help="Memory for the beginnings of earlier prompts.",
        ),
        click.option(
            "--no-lookup", is_flag=True, help="Draft no tokens; answers are the same, some slower."
        ),
        click.option(
            "--allowed-host", metavar="NAME", multiple=True,
            help="A name by which clients without a key may call this machine.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@model_options
@serving_options
def serve(
    host: str,
    port: int,
    api_key: str | None,
    queue: int,
    max_stall: int,
    prefix_cache: int,
    no_lookup: bool,
    allowed_host: tuple[str, ...],
    debug: bool,
    **loading: Any,
) -> None:
    """Serve a model through OpenAI's API: chat, completions, models."""
    check_key(api_key, is_loopback(host))
    hosts = [as_host(name) for name in allowed_host]
    bound = bind(host, port)  # before loading, which may take minutes
    from glmcore.cli.loading import load_engine
    from glmcore.server.app import create_app
    from glmcore.server.run import serve as run

    engine = load_engine(
        **loading, max_stall=max_stall / 1000, prefix_bytes=prefix_cache, lookup=not no_lookup
    )
    engine.loop.measure()
    run(create_app(engine, api_key, queue=queue, hosts=hosts), bound, engine.describe(), debug=debug)


def check_key(api_key: str | None, loopback: bool) -> None:
    """GlmError("usage") for a key that protects nothing, and for none where others can reach the server."""
    if api_key is not None and (not api_key or not api_key.isascii() or not api_key.isprintable()):
        raise GlmError("usage", "the API key must be printable ASCII characters, at least one", where="--api-key")
    if api_key is None and not loopback:
        hint = "give --api-key KEY or GLMCORE_API_KEY, or stay on 127.0.0.1"
        raise GlmError("usage", "other machines could use the server without a key", where="--host", hint=hint)
