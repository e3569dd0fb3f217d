"""``glmdoctor check --ray``: each node of a cluster examined there, all verdicts in one table."""

from __future__ import annotations

from pathlib import Path

import click

from glmcore.errors import GlmError
from glmdoctor.cli import output
from glmdoctor.reports import cluster


def check_nodes(address: str, model: str | None, form: str, language: str) -> int:
    """Examine, print, and return the exit status. Raises ``ClickException`` for what glmcore calls an error."""
    if form not in cluster.FORMATS:
        raise click.UsageError(f"--ray knows the formats {', '.join(cluster.FORMATS)}, not {form}")
    try:
        rows = examined(address, model, language)
    except GlmError as error:
        raise click.ClickException(str(error)) from error
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        from glmcore.extras import install_hint

        raise click.ClickException(f"ray is not installed: {install_hint('ray')}") from error
    if form == "terminal":
        output.emit(output.laid_out(cluster.lines(rows, language)))
    else:
        output.emit(cluster.render(form, rows, language))
    return cluster.exit_status(rows)


def examined(address: str, model: str | None, language: str) -> list[cluster.Row]:
    """Every node of the cluster. Its files are compared with this machine's, where that has the model."""
    from glmcore.cluster.session import session

    with session(address):
        from glmcore.cluster.examination import Asked, examined_nodes, reference
        from glmcore.cluster.nodes import root_cause

        nodes = examined_nodes(Asked(model, language=language), reference(folder_here(model)))
    return [
        cluster.Row(
            node.name, node.address, node.state, node.verdict.kind, dict(node.verdict.values),
            root_cause(node.facts.get("report", {})), node.facts.get("report", {}),
        )
        for node in nodes
    ]  # fmt: skip


def folder_here(model: str | None) -> Path | None:
    """The checkpoint's folder on this machine, or None where it has none."""
    from glmcore.checkpoint.locate import find_folder

    try:
        return None if model is None else find_folder(model)
    except GlmError:
        return None
