"""One file for a bug report: what the log shows, what is still open, and the machine; Markdown, redacted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from glmdoctor.explain import Explanation, Match
from glmdoctor.messages import text
from glmdoctor.reports import markdown
from glmdoctor.reports.explanation import RUNNERS_UP, meaning
from glmdoctor.reports.markdown import escaped, fenced
from glmdoctor.reports.redact import Redactor
from glmdoctor.reports.view import shown

if TYPE_CHECKING:
    from glmdoctor.diagnosis import Diagnosis


def render(explanation: Explanation, diagnosis: Diagnosis, language: str, redact: Redactor | None = None) -> str:
    """The explanation of a log, the question that decides, and the report of `check --format markdown`."""
    redact = redact or Redactor.of_this_machine()
    lines = [*_log(explanation, language, redact), "", *_open(explanation, language), ""]
    return "\n".join(lines) + "\n" + markdown.render(diagnosis, language, redact)


def _log(explanation: Explanation, language: str, redact: Redactor) -> Iterator[str]:
    yield f"## {text('What the log shows').render(language)}"
    if not explanation.matches:
        yield ""
        yield text("No known problem was found in this log.").render(language)
    for match in explanation.matches[: 1 + RUNNERS_UP]:
        yield ""
        yield from _match(match, language, redact)


def _match(match: Match, language: str, redact: Redactor) -> Iterator[str]:
    words = meaning(match.problem, language)
    percent = text("{n} % sure", n=round(100 * match.confidence)).render(language)
    yield f"### {escaped(words.title)} (`{match.problem}`, {percent})"
    yield ""
    yield f"{text('Line {lines}', lines=', '.join(map(str, match.lines))).render(language)}:"
    yield ""
    yield from fenced(redact(shown(match.words, language)))
    yield ""
    yield f"- {text('Cause').render(language)}: {escaped(words.cause)}"
    yield f"- {text('What to do').render(language)}: {escaped(words.remedy)}"


def _open(explanation: Explanation, language: str) -> Iterator[str]:
    """The probe that decides between what the log shows; where it shows nothing, the one that would tell more."""
    yield f"## {text('What is open').render(language)}"
    yield ""
    probes = [meaning(match.problem, language).probe for match in explanation.matches[: 1 + RUNNERS_UP]]
    if any(probes):
        yield from (f"- {escaped(probe)}" for probe in dict.fromkeys(probes) if probe)
        return
    yield escaped(explanation.question.wording[language])
    yield ""
    yield from fenced(explanation.question.run)
