"""The answers yes, no, all and quit, and the plans that need a yes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from glmdoctor.actions import MakeFolder
from glmdoctor.cli import fix
from glmdoctor.messages import text
from glmdoctor.remedies import Plan
from glmdoctor.repair.executor import Prepared


def prepared(name: str, own_question: bool = False) -> Prepared:
    action = MakeFolder(f"/{name}")
    return Prepared(Plan(name, text("Mend"), (), (action,), own_question=own_question), ((action, {}),))


FOUR = [prepared("a"), prepared("b"), prepared("own", own_question=True), prepared("c")]


@pytest.mark.parametrize(
    "typed, done",
    [
        ("ynyy", "a own c"),
        ("nnnn", ""),
        ("ann", "a b c"),  # all, but for the plan with a question of its own
        ("ayn", "a b own c"),
        ("yq", "a"),
        ("\n\n\n\n", "a b c"),  # its default is no
        ("nnay", "own c"),
    ],
)
@pytest.mark.parametrize("words", [False, True])
def test_answers(monkeypatch: pytest.MonkeyPatch, typed: str, done: str, words: bool) -> None:
    spoken = {"y": "YES", "n": "no", "a": "all", "q": "quit", "\n": ""}
    answers: Iterator[str] = iter([spoken[key] if words else key.strip() for key in typed])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: next(answers))
    confirm = fix.asked(click.Context(fix.fix), "en", yes=False)
    assert " ".join(plan.plan.id for plan in FOUR if confirm(plan)) == done


def test_yes_answers_every_question_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt: pytest.fail("a question was asked"))
    assert all(map(fix.asked(click.Context(fix.fix), "en", yes=True), FOUR))
