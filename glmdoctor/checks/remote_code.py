"""A checkpoint's own code (``trust_remote_code``) beside the installed transformers.

glmcore loads the four generations natively, so what breaks here is a warning for those who run the original code. The
faults strike one after another, each hidden by the one before it; all are told at once, folded under the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from posixpath import basename, normpath
from typing import Any

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Finding, Requirements, Status
from glmdoctor.host.facts import Checkpoint
from glmdoctor.knowledge import versions
from glmdoctor.messages import Text, text
from glmdoctor.readings.needs import needs
from glmdoctor.readings.ranges import solve
from glmdoctor.readings.versions import admits

FLOOR = text("transformers for the model's own code")
MODULE = text("Import of the model's own code")
NONE_BROUGHT = text("The checkpoint brings no code of its own; glmcore needs none.")
NO_TRANSFORMERS = text("transformers is not installed in the examined Python.")

TITLES: dict[str, Text] = {
    "tf-new-tokenizer-init": text("The tokenizer's code is too old for this transformers"),
    "tf-new-token-property": text("Saved token names clash with the tokenizer's properties"),
    "tf-config-attr-missing": text("The configuration's code lacks names that transformers reads"),
    "tf-new-tied-weights": text("The model's code does not call post_init"),
    "tf-no-generation-mixin": text("The model's code has no generate()"),
    "tf-new-pad-padding-side": text("The tokenizer's _pad lacks padding_side"),
    "tf-new-cache-format": text("The model's code expects the cache as tuples"),
}
# From 4.54 on transformers replaces the dots itself.
DOTS_BREAK = "<4.54"


def breaks(row: dict[str, Any]) -> Callable[[Machine], Iterator[Finding]]:
    """The check of one row of the table."""

    def run(host: Machine) -> Iterator[Finding]:
        checkpoint, installed = known(host.checkpoint), _transformers(host)
        title = TITLES[row["problem"]]
        if not checkpoint.remote_code or installed is None:
            yield skipped(title, NO_TRANSFORMERS if checkpoint.remote_code else NONE_BROUGHT)
        elif row["mark"] not in checkpoint.remote_code or not admits(row["breaks"], installed):
            yield ok(title, text("Not with transformers {version}.", version=installed), version=installed)
        else:
            yield _broken(host, checkpoint, row, installed)

    return run


def _broken(host: Machine, checkpoint: Checkpoint, row: dict[str, Any], installed: str) -> Finding:
    fits = range_of(checkpoint)
    solution = solve(needs(host, fits))
    return bad(
        Status.WARN,
        row["problem"],
        TITLES[row["problem"]],
        text(
            "With transformers {version} the checkpoint's own code fails (since {breaks}); it needs {fits}. "
            "glmcore loads this checkpoint without that code.",
            version=installed,
            breaks=row["breaks"].removeprefix(">="),
            fits=f"transformers{fits}",
        ),
        Requirements(solution.arguments) if solution and solution.arguments else None,
        installed=installed,
        breaks=row["breaks"],
        needs=fits,
        mark=row["mark"],
        install=list(solution.arguments) if solution else None,
    )


def range_of(checkpoint: Checkpoint) -> str:
    """The transformers on which all of the checkpoint's own code runs, as a specifier."""
    floors = {row["generation"]: row["specifier"] for row in versions()["remote_code_floor"]["rows"]}
    limits = [
        r["breaks"].removeprefix(">=") for r in versions()["remote_code"]["rows"] if r["mark"] in checkpoint.remote_code
    ]
    ceiling = min(limits, key=lambda limit: tuple(map(int, limit.split("."))), default=None)
    return ",".join(part for part in (floors.get(checkpoint.generation or ""), ceiling and f"<{ceiling}") if part)


def _transformers(host: Machine) -> str | None:
    interpreter = maybe(host.interpreter)
    return interpreter.packages.get("transformers") if interpreter else None


def floor(host: Machine) -> Iterator[Finding]:
    checkpoint, installed = known(host.checkpoint), _transformers(host)
    rows = {row["generation"]: row["specifier"] for row in versions()["remote_code_floor"]["rows"]}
    wanted = rows.get(checkpoint.generation or "")
    classes = {row["generation"]: row for row in versions()["transformers_classes"]["rows"]}
    own = classes.get(checkpoint.generation or "")
    if own and installed is not None and not checkpoint.remote_code:
        yield _class_there(own, installed)
    elif not checkpoint.remote_code or installed is None or wanted is None:
        yield skipped(FLOOR, NO_TRANSFORMERS if checkpoint.remote_code else NONE_BROUGHT)
    elif admits(wanted, installed):
        yield ok(FLOOR, text("{version} is new enough.", version=installed), version=installed)
    else:
        yield bad(
            Status.WARN,
            "tf-too-old",
            text("transformers is too old for the model's code"),
            text(
                "Installed is {version}; the checkpoint's own code needs transformers{wanted}.",
                version=installed,
                wanted=wanted,
            ),
            installed=installed,
            needs=wanted,
        )


def _class_there(row: dict[str, Any], installed: str) -> Finding:
    """Whether transformers has the class of a checkpoint that brings no code, being in transformers' own layout."""
    if admits(row["specifier"], installed):
        return ok(FLOOR, text("{version} is new enough.", version=installed), version=installed)
    return bad(
        Status.WARN,
        "tf-too-old",
        text("transformers is too old for the model's class"),
        text(
            "Installed is {version}; {name} came with transformers{wanted}. glmcore loads the checkpoint without it.",
            version=installed,
            name=row["class"],
            wanted=row["specifier"],
        ),
        installed=installed,
        needs=row["specifier"],
    )


def module(host: Machine) -> Iterator[Finding]:
    """Dynamic modules are imported by the folder's name; a dot in it cuts the name."""
    checkpoint, installed = known(host.checkpoint), _transformers(host)
    if not checkpoint.remote_code or installed is None:
        yield skipped(MODULE, NO_TRANSFORMERS if checkpoint.remote_code else NONE_BROUGHT)
        return
    found = list(_unimportable(checkpoint, installed))
    yield from found
    if not found:
        yield ok(MODULE, text("transformers {version} can import it.", version=installed))


def _unimportable(checkpoint: Checkpoint, installed: str) -> Iterator[Finding]:
    folder = basename(normpath(checkpoint.path))
    names = {file.name for file in checkpoint.files}
    if "." in folder and admits(DOTS_BREAK, installed):
        yield bad(
            Status.WARN,
            "tf-remote-module-path",
            text("A dot in the folder's name"),
            text(
                "transformers {version} cannot import code from a folder called '{folder}'.",
                version=installed,
                folder=folder,
            ),
            folder=folder,
        )
    if "modeling_chatglm.py" in names and "tokenization_chatglm.py" not in names:
        yield bad(
            Status.WARN,
            "tokenizer-class-missing",
            text("The tokenizer's code is not in the folder"),
            text("modeling_chatglm.py is there, tokenization_chatglm.py is not; glmcore needs neither."),
            files=sorted(name for name in names if name.endswith(".py")),
        )


def _checks() -> Iterator[Check]:
    """One check for each row, each explained by the rows before it: what strikes first hides the others."""
    earlier: tuple[str, ...] = ("tf-too-old",)
    for row in versions()["remote_code"]["rows"]:
        problem = row["problem"]
        yield Check(
            f"remote-code.{problem.removeprefix('tf-')}",
            TITLES[problem],
            breaks(row),
            problems=(problem,),
            needs=("checkpoint",),
            explained_by=earlier,
        )
        earlier += (problem,)


CHECKS = (
    Check("remote-code.floor", FLOOR, floor, problems=("tf-too-old",), needs=("checkpoint",)),
    Check(
        "remote-code.module",
        MODULE,
        module,
        problems=("tf-remote-module-path", "tokenizer-class-missing"),
        needs=("checkpoint",),
    ),
    *_checks(),
)
