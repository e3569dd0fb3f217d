"""How plans and their outcomes are shown, as text and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from glmdoctor.findings import Finding
from glmdoctor.messages import text
from glmdoctor.private import without_credentials
from glmdoctor.repair.executor import Outcome, Prepared, Result
from glmdoctor.repair.records import action_to_json
from glmdoctor.reports.json import dumps, remedy_dict
from glmdoctor.reports.view import shown

SCHEMA_VERSION = 1
OUTCOMES = {
    Outcome.REPAIRED: text("repaired: its check passes again"),
    Outcome.NOT_REPAIRED: text("done, but its check still complains"),
    Outcome.FAILED: text("not done"),
    Outcome.DECLINED: text("left out"),
}


def announced(plans: Sequence[Prepared], beyond: Sequence[Finding], language: str, first: int = 1) -> str:
    """Every step of every plan, numbered from ``first``, and advice where there is none."""
    return "\n".join([*_plans(plans, language, first), *_beyond(beyond, language)]) + "\n"


def _plans(plans: Sequence[Prepared], language: str, first: int) -> Iterator[str]:
    if not plans:
        yield text("There is nothing that glmdoctor can repair here.").render(language)
    for number, prepared in enumerate(plans, first):
        plan = prepared.plan
        yield f"{number}. {shown(plan.title, language)}  [{', '.join(plan.findings)}]"
        yield from (f"   - {shown(action.describe(changes), language)}" for action, changes in prepared.steps)
        if plan.actions and not prepared.steps:
            yield "   - " + text("everything is in place already").render(language)
        for name, value in plan.environment.items():
            setting = f"{name}={shlex.quote(value)}"
            yield "   - " + text("`glmdoctor run` and `chat` set {setting}", setting=setting).render(language)
        yield from (f"   - {shown(note, language)}" for note in plan.notes)


def _beyond(findings: Sequence[Finding], language: str) -> Iterator[str]:
    for finding in findings:
        yield f"! {shown(finding.title, language)}  [{finding.id}, {finding.problem}]"
        for remedy in finding.remedies:
            yield f"   {shown(remedy.title, language)}"
            yield from (f"       {command}" for command in remedy.commands)


def outcome(run: str, results: Sequence[Result], language: str) -> str:
    """What became of each plan, the lines for the user's shell, and the way back."""
    return "\n".join(_outcome(run, results, language)) + "\n" if results else ""


def _outcome(run: str, results: Sequence[Result], language: str) -> Iterator[str]:
    for number, result in enumerate(results, 1):
        reason = f" ({shown(result.reason, language)})" if result.reason else ""
        yield f"{number}. {OUTCOMES[result.outcome].render(language)}{reason}"
        yield from (f"   - {shown(each, language)}" for each in result.left)
    lines = [line for result in results if _done(result) for line in result.prepared.plan.commands]
    if lines:
        yield text("In a shell of your own:").render(language)
        yield from (f"    {line}" for line in dict.fromkeys(lines))
    if any(_done(result) and result.prepared.steps for result in results):
        yield text("`glmdoctor undo {run}` takes it back.", run=run).render(language)


def _done(result: Result) -> bool:
    return result.outcome in (Outcome.REPAIRED, Outcome.NOT_REPAIRED)


def as_json(
    plans: Sequence[Prepared], beyond: Sequence[Finding], run: str | None, results: Sequence[Result], language: str
) -> str:
    by_plan = {id(result.prepared): result for result in results}
    done = any(_done(result) and result.prepared.steps for result in results)
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "run": run if done else None,
            "plans": [_plan(prepared, by_plan.get(id(prepared)), language) for prepared in plans],
            "not_repairable": [
                {
                    "id": finding.id,
                    "problem": finding.problem,
                    "status": finding.status.value,
                    "title": shown(finding.title, language),
                    "remedies": [remedy_dict(remedy, language) for remedy in finding.remedies],
                }
                for finding in beyond
            ],
        }
    )


def without_secrets(value: Any) -> Any:
    """The same data; logins in pip's addresses and keys in a start file are for the journal alone."""
    if isinstance(value, dict):
        return {name: without_secrets(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    return without_credentials(value) if isinstance(value, str) else value


def _plan(prepared: Prepared, result: Result | None, language: str) -> dict[str, Any]:
    plan = prepared.plan
    return {
        "id": plan.id,
        "title": shown(plan.title, language),
        "findings": list(plan.findings),
        "actions": [
            {**without_secrets(action_to_json(action)), "description": shown(action.describe(changes), language)}
            for action, changes in prepared.steps
        ],
        "paths": list(prepared.paths),
        "environment": dict(plan.environment),
        "commands": list(plan.commands),
        "notes": [shown(note, language) for note in plan.notes],
        "needs_root": plan.needs_root,
        "reversible": plan.reversible,
        "outcome": result.outcome.value if result else "planned",
        "reason": shown(result.reason, language) if result and result.reason else None,
        "not_as_before": [shown(each, language) for each in result.left] if result else [],
    }
