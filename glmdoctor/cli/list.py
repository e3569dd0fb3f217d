"""``glmdoctor list``: the catalogue of checks and of known problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from glmdoctor.cli import options, output
from glmdoctor.messages import text

if TYPE_CHECKING:
    from glmdoctor.checks.base import Check


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@options.language
def list_catalogue(as_json: bool, lang: str | None) -> None:
    """List the checks, with the problems that each can find, and the problems that only a log shows."""
    from glmdoctor import checks

    language = output.language(lang, ascii_safe=as_json)
    if as_json:
        from glmdoctor.reports.json import dumps

        output.emit(dumps(catalogue(checks.every(), language)))
    else:
        output.emit("\n".join(lines(checks.every(), language)))


def catalogue(all_checks: tuple[Check, ...], language: str) -> dict[str, Any]:
    from glmdoctor.knowledge import problems

    return {
        "schema_version": 1,
        "checks": [
            {
                "id": c.id,
                "title": c.title.render(language),
                "problems": list(c.problems),
                "needs": list(c.needs),
                "deep": c.deep,
            }
            for c in all_checks
        ],
        "problems": [
            {
                "id": problem.id,
                "group": problem.group,
                "title": problem.title[language],
                "by": problem.by,
                "checks": [c.id for c in all_checks if problem.id in c.problems],
            }
            for problem in problems().values()
        ],
    }


def lines(all_checks: tuple[Check, ...], language: str) -> Iterator[str]:
    listed = catalogue(all_checks, language)
    titles = {problem["id"]: problem["title"] for problem in listed["problems"]}
    yield text("Checks, each with the problems that it can find:").render(language)
    for check in listed["checks"]:
        yield f"  {check['id']}: {check['title']}"
        yield from (f"      {problem}: {titles.get(problem, problem)}" for problem in check["problems"])
    yield text("Problems that `glmdoctor explain` knows from logs alone:").render(language)
    yield from (f"  {p['id']}: {p['title']}" for p in listed["problems"] if not p["checks"])
