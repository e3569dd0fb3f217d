"""Packages solved as one range: what would satisfy Python, driver, cards, torch and transformers at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.checks.causes import DEPS_MISSING, OLD_PACKAGES, TORCH_UNFIT, UNUSED_CARD
from glmdoctor.checks.remote_code import range_of
from glmdoctor.findings import Finding, Requirements, Status
from glmdoctor.messages import Text, text
from glmdoctor.readings.needs import needs, untested
from glmdoctor.readings.ranges import Needs, Together, solve, unmet
from glmdoctor.readings.severity import model_grade

TITLE = text("Packages solved together")
CAUSES = (*TORCH_UNFIT, *UNUSED_CARD, *OLD_PACKAGES, "numpy2-abi")


def together(host: Machine) -> Iterator[Finding]:
    python, checkpoint = known(host.interpreter), maybe(host.checkpoint)
    if "torch" not in python.packages and checkpoint is None:
        yield skipped(TITLE, text("This Python has no torch: it is not set up to run models, and none was named."))
        return
    asked = needs(host)
    solution = solve(asked)
    clashes = {name: unmet(lines, python.packages, python.version) for name, lines in python.requires.items()}
    clashes = {name: lines for name, lines in clashes.items() if lines}
    evidence = {
        "python": python.version,
        "ceiling": ".".join(map(str, asked.ceiling)) if asked.ceiling else None,
        "cards": ["{}.{}".format(*card) for card in asked.cards],
        "install": list(solution.arguments) if solution else None,
        "unmet": {name: list(lines) for name, lines in clashes.items()},
        "remote_code": _for_remote_code(host),
    }
    if solution and not solution.install and not clashes:
        detail = text(
            "torch {torch} and transformers {transformers} suit Python {python}, driver and cards.",
            torch=solution.torch,
            transformers=solution.transformers,
            python=python.version,
        )
        yield ok(TITLE, detail, **evidence)
        return
    newer = not clashes and _goes_together(untested(asked))
    yield bad(
        Status.WARN if newer else model_grade(host),
        DEPS_MISSING,
        text("The packages do not go together"),
        _words(solution, clashes, python.executable),
        Requirements(solution.arguments) if solution and solution.arguments else None,
        **evidence,
    )


def _goes_together(asked: Needs) -> bool:
    solution = solve(asked)
    return solution is not None and not solution.install


def _words(solution: Together | None, clashes: dict[str, tuple[str, ...]], python: str) -> Text:
    if solution is None:
        return text("Nothing known satisfies this Python, the driver and the cards at once; another Python may.")
    if not solution.install:
        name, lines = next(iter(clashes.items()))
        return text("{package} itself asks for {lines}, which is not what is installed.", package=name,
                    lines=", ".join(lines))  # fmt: skip
    line = shlex.join([python, "-m", "pip", "install", *solution.arguments])
    return text("One line satisfies Python, driver, cards and each other: {line}", line=line)


def _for_remote_code(host: Machine) -> dict[str, object] | None:
    """What a checkpoint's own code would need, in an environment of its own; glmcore needs none of it."""
    checkpoint = maybe(host.checkpoint)
    if checkpoint is None or not checkpoint.remote_code:
        return None
    wanted = range_of(checkpoint)
    solution = solve(needs(host, wanted))
    return {"transformers": wanted, "install": list(solution.arguments) if solution else None, "native": True}


CHECKS = (
    Check(
        "python.together",
        TITLE,
        together,
        problems=(DEPS_MISSING,),
        needs=("interpreter",),
        explained_by=CAUSES,
    ),
)
