"""glmcore combine: several engines of one model as one."""

from __future__ import annotations

import json

import click

from glmcore.cli.terminal import say


@click.command()
@click.argument("engines", metavar="ENGINE ENGINE…", nargs=-1)
@click.option("--ngf-1", metavar="ENGINE", help="The closed tool chain's word for the first ENGINE.")
@click.option("--ngf-2", metavar="ENGINE", help="Its word for the second.")
@click.option("-o", "--output", metavar="ENGINE", required=True, help="The folder of the combined engine.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def combine(
    engines: tuple[str, ...], ngf_1: str | None, ngf_2: str | None, output: str, as_json: bool, debug: bool
) -> None:
    """Put the graphs of engines of one model into one: a prefill and a decode, or several prefill lengths.

    Weights are kept once, after names, shapes and hashes have been found to be the same in all. Engines of other
    weights, types, lengths or generations are refused.
    """
    from glmcore.compiled.combine import combine as put_together

    made = put_together([*filter(None, (ngf_1, ngf_2)), *engines], output)
    graphs = [f"{role} of {', '.join(map(str, made.lengths(role)))}" for role in made.roles if role != "decode"]
    graphs += ["decode"] if "decode" in made.roles else []
    told = {"schema_version": 1, "engine": output, "graphs": [graph.name for graph in made.graphs]}
    say(json.dumps(told, ensure_ascii=False, indent=1) if as_json else f"{output}: {made.name}, {'; '.join(graphs)}")
