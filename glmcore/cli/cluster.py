"""glmcore cluster: the same server over several machines, on Ray; and what would lie where."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glmcore.cli.options import Decorator, model_options
from glmcore.cli.serve import check_key, serving_options
from glmcore.cli.terminal import say
from glmcore.errors import GlmError
from glmcore.server.address import as_host, bind, is_loopback

if TYPE_CHECKING:
    from glmcore.cluster.request import Request


class Stages(click.ParamType):
    """A number, or "auto"."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value in ("auto", None) else click.IntRange(1).convert(value, param, ctx)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the cluster is, and what it is to hold."""
    options: list[Decorator] = [
        click.option(
            "--address", default="auto", show_default=True, metavar="auto|HOST:PORT|local",
            help="Where Ray is; local starts a cluster on this machine to try it.",
        ),
        click.option(
            "--nodes", type=click.IntRange(1, 16), metavar="N", help="Of a local cluster.  [default: 2]"
        ),
        click.option(
            "--replicas", type=click.IntRange(1), metavar="N", help="At most.  [default: as many as the nodes hold]"
        ),
        click.option(
            "--stages", type=Stages(), default="auto", show_default=True, metavar="auto|N",
            help="Machines over which each replica lies; auto takes what gives most tokens.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def cluster() -> None:
    """Serve one model over several machines that Ray connects; glmdoctor says which of them are fit."""


@cluster.command()
@model_options
@cluster_options
@serving_options
def serve(
    host: str, port: int, api_key: str | None, queue: int, parallel: int | None, context: int | None, max_stall: int,
    prefix_cache: int, no_lookup: bool, allowed_host: tuple[str, ...], debug: bool, **asked: Any,
) -> None:  # fmt: skip
    """Serve a model through OpenAI's API, each answer made by one of the cluster's replicas."""
    check_key(api_key, is_loopback(host))
    hosts = [as_host(name) for name in allowed_host]
    bound = bind(host, port)  # before anything is started
    from glmcore.cluster.session import session
    from glmcore.server.app import create_app
    from glmcore.server.run import serve as run
    from glmcore.server.run import write_logs

    write_logs(debug)
    serving = {
        "parallel": parallel, "max_stall": max_stall / 1000, "prefix_bytes": prefix_cache, "lookup": not no_lookup
    }  # fmt: skip
    request = requested(**asked, context=context, serving=serving)
    with session(request.address, request.nodes):
        from glmcore.cluster.serving import serving as replicas  # imports Ray

        with replicas(request) as front:
            run(create_app(front, api_key, queue=queue, hosts=hosts), bound, front.describe(), debug=debug)


@cluster.command()
@model_options
@cluster_options
@click.option("--context", type=click.IntRange(2), metavar="N", help="Tokens of a prompt and its answer.")
@click.option("--json", "as_json", is_flag=True)
def plan(context: int | None, as_json: bool, debug: bool, **asked: Any) -> None:
    """Examine the nodes and say what would run where; start nothing."""
    from glmcore.cluster.session import session

    request = requested(**asked, context=context, serving={})
    with session(request.address, request.nodes):
        from glmcore.cluster.overview import as_json as overview_json  # imports Ray
        from glmcore.cluster.overview import table
        from glmcore.cluster.serving import planned

        made = planned(request)
    say(json.dumps(overview_json(made), ensure_ascii=False, indent=1) if as_json else table(made))
    if not made.specs:
        raise SystemExit(1)


def requested(
    *, model: str | None, adapter: str | None, quant: str | None, dtype: str | None, plan_file: str | None,
    kernel_file: str | None, precision: str, cache: str | None, threads: int | None, address: str, nodes: int | None,
    replicas: int | None, stages: int | None, context: int | None, serving: dict[str, Any],
) -> Request:  # fmt: skip
    """The options as one request. Errors: GlmError("usage") for what a cluster does not take, and of the files."""
    if plan_file is not None:
        hint = "leave it away: a cluster's plan is made from its nodes"
        raise GlmError("usage", "a plan is for one machine", where="--plan", hint=hint)
    if nodes is not None and address != "local":
        raise GlmError("usage", "only a local cluster is given its nodes", where="--nodes", hint="--address local")
    from glmcore.cluster.request import Request

    files = {"kernel_file": absolute(kernel_file), "adapter": absolute(adapter)}
    request = Request(
        model=absolute(model), quant=quant, dtype=dtype, cache=cache, threads=threads, address=address,
        nodes=nodes or 2, replicas=replicas, context=context, stages=stages,
        loading={**{name: path for name, path in files.items() if path}, "precision": precision}, answering=serving,
    )  # fmt: skip
    request.check()
    return request


def absolute(path: str | None) -> str | None:
    """A folder as other machines are asked for it; the name of a model in the hub's cache as it is."""
    if path is None:
        return None
    folder = Path(os.path.expanduser(path))
    return str(folder.absolute()) if folder.exists() else path
