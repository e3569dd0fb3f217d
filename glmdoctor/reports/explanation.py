"""What a log shows, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from glmdoctor.explain import Explanation, Match, book, own_id
from glmdoctor.explain.signatures import Own
from glmdoctor.knowledge import Problem, problems
from glmdoctor.messages import text
from glmdoctor.reports.terminal import Line
from glmdoctor.reports.view import shown

CLOSE = 0.25  # a second match so near in confidence to the first that only a probe can tell
RUNNERS_UP = 3  # further matches that a person is shown


@dataclass(frozen=True)
class Meaning:
    """A problem in one language."""

    title: str
    cause: str
    probe: str
    remedy: str
    needs_root: bool


def meaning(problem: str, language: str) -> Meaning:
    known = problems().get(problem)
    return _of_code(problem, language) if known is None else _of_problem(known, language)


def _of_problem(problem: Problem, language: str) -> Meaning:
    needs_root = "root" in problem.by and "no-root" not in problem.by
    title, cause, probe, remedy = problem.title, problem.cause, problem.probe, problem.remedy
    return Meaning(title[language], cause[language], probe[language], remedy[language], needs_root)


def _of_code(problem: str, language: str) -> Meaning:
    own = {own_id(code): value for code, value in book().codes.items() if isinstance(value, Own)}[problem]
    return Meaning(own.title[language], own.title[language], "", own.remedy[language], False)


def as_dict(explanation: Explanation, language: str, confirmed: Mapping[str, bool | None] | None) -> dict[str, Any]:
    """The contract's JSON; ``confirmed`` where this machine was asked too."""
    matches = [_match_dict(match, language) for match in explanation.matches]
    if confirmed is not None:
        matches = [{**match, "confirmed": confirmed.get(match["problem"])} for match in matches]
    return {"schema_version": 1, "matches": matches}


def _match_dict(match: Match, language: str) -> dict[str, Any]:
    words = meaning(match.problem, language)
    remedy = {
        "id": match.problem,
        "title": words.remedy,
        "automatic": False,
        "needs_root": words.needs_root,
        "reversible": False,
        "commands": [],
    }
    return {
        "problem": match.problem,
        "confidence": match.confidence,
        "lines": list(match.lines),
        "cause": words.cause,
        "remedies": [remedy],
    }


def lines(explanation: Explanation, language: str, confirmed: Mapping[str, bool | None] | None) -> Iterator[Line]:
    if not explanation.matches:
        yield Line(text("No known problem was found in this log.").render(language), style="bold")
        yield from _question(explanation, language)
    several = len(explanation.matches) > 1 and _near(explanation.matches[1], explanation.matches[0])
    for i, match in enumerate(explanation.matches[: 1 + RUNNERS_UP]):
        if i:
            yield Line("")
        yield from _match(match, language, several and _near(match, explanation.matches[0]))
        if confirmed is not None:
            yield Line(_verdict(confirmed.get(match.problem)).render(language), 2, "bold")
    if explanation.harmless:
        numbers = ", ".join(map(str, explanation.harmless))
        yield Line("")
        yield Line(text("These lines look like faults and are none: {lines}", lines=numbers).render(language), 0, "dim")


def _question(explanation: Explanation, language: str) -> Iterator[Line]:
    question = explanation.question
    yield Line(text("What would tell more: {question}", question=question.wording[language]).render(language), 2)
    yield Line(question.run, 4)


def _near(match: Match, first: Match) -> bool:
    return first.confidence - match.confidence <= CLOSE


def _match(match: Match, language: str, ambiguous: bool) -> Iterator[Line]:
    words = meaning(match.problem, language)
    percent = text("{n} % sure", n=round(100 * match.confidence)).render(language)
    yield Line(f"{words.title}  [{match.problem}, {percent}]", style="bold red")
    numbers = ", ".join(map(str, match.lines))
    yield Line(f"{text('Line {lines}', lines=numbers).render(language)}: {shown(match.words, language)}", 2, "dim")
    yield Line(f"{text('Cause').render(language)}: {words.cause}", 2)
    yield Line(f"{text('What to do').render(language)}: {words.remedy}", 2)
    if ambiguous and words.probe:
        yield Line(f"{text('What decides whether it is this').render(language)}: {words.probe}", 2)


def _verdict(confirmed: bool | None) -> Any:
    if confirmed is None:
        return text("No check of this machine can tell.")
    return text("This machine has it.") if confirmed else text("This machine does not have it.")
