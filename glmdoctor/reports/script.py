"""The plan as a shell script to read first: the same steps, each only where the machine is still as it was seen."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from glmdoctor.actions import Action, Change
from glmdoctor.findings import Finding
from glmdoctor.messages import text
from glmdoctor.repair.executor import Prepared
from glmdoctor.reports.view import shown

HEAD = """#!/bin/sh
# {what}
# {how}
set -eu

same() {{  # PATH SHA256
    printf '%s  %s\\n' "$2" "$1" | sha256sum -c --status || changed "$1"
}}
leads() {{  # PATH TARGET
    [ -L "$1" ] && [ "$(readlink "$1")" = "$2" ] || changed "$1"
}}
absent() {{  # PATH
    if [ -e "$1" ] || [ -L "$1" ]; then changed "$1"; fi
}}
changed() {{
    echo "$1: {changed}" >&2
    exit 1
}}
"""


def script(plans: Sequence[Prepared], beyond: Sequence[Finding], language: str) -> str:
    """For sh with the system's usual tools; what is kept beside is named, and not undone by glmdoctor."""
    return "\n".join([_head(language), *_plans(plans, language), *_beyond(beyond, language)])


def _head(language: str) -> str:
    return HEAD.format(
        what=text("The repairs that glmdoctor proposes. Read them, then run them with sh.").render(language),
        how=text("`glmdoctor undo` knows nothing of them; each file that is replaced is kept.").render(language),
        changed=text("has changed since the plan was made").render(language),
    )


def _plans(plans: Sequence[Prepared], language: str) -> Iterator[str]:
    if not plans:
        yield _comment(text("There is nothing that glmdoctor can repair here.").render(language))
    done: set[Action] = set()
    for number, prepared in enumerate(plans, 1):
        plan = prepared.plan
        yield _comment(f"{number}. {shown(plan.title, language)}  [{', '.join(plan.findings)}]")
        for action, changes in prepared.steps:
            if action not in done:
                yield _comment(shown(action.describe(changes), language))
                for path, change in changes.items():
                    yield from _guard(path, change)
                yield from action.as_shell(changes)
            done.add(action)
        for line in (*(shown(note, language) for note in plan.notes), *plan.commands):
            yield _comment(line)
        yield ""


def _beyond(findings: Sequence[Finding], language: str) -> Iterator[str]:
    """Advice stays a comment: it is for a person to decide."""
    for finding in findings:
        yield _comment(f"! {shown(finding.title, language)}  [{finding.id}]")
        for remedy in finding.remedies:
            yield _comment(shown(remedy.title, language))
            yield from (_comment("    " + command) for command in remedy.commands)


def _comment(words: str) -> str:
    return "\n".join("# " + line for line in words.splitlines())


def _guard(path: str, change: Change) -> Iterator[str]:
    before = change.before
    if before.kind == "absent":
        yield _command("absent", path)
    elif before.kind == "link":
        yield _command("leads", path, before.target)
    elif before.kind == "file":
        yield _command("same", path, before.sha256)
        if change.kept:
            yield _command("cp", "-p", path, change.kept)


def _command(*words: str) -> str:
    return shlex.join(words)
