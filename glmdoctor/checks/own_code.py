"""A checkpoint's own code by itself: which Auto classes lead to it, and do its model and tokenizer agree?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from glmdoctor.checks.base import Check, Machine, bad, known, ok, skipped
from glmdoctor.findings import Finding, Status
from glmdoctor.messages import text

CLASSES = text("Auto classes of the model's own code")
METHODS = text("Model's and tokenizer's code beside each other")
MODELS = ("AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


def classes(host: Machine) -> Iterator[Finding]:
    config, code = known(host.checkpoint).config, known(host.own_code)
    if not any(name.startswith("modeling") for name in code.classes):
        yield skipped(CLASSES, text("The checkpoint brings no model code."))
        return
    listed = config.get("auto_map")
    leads = {name: str(target) for name, target in listed.items()} if isinstance(listed, Mapping) else {}
    usable = [name for name in MODELS if name in leads]
    unusable = [name for name in MODELS if name not in leads]
    broken = {name: target for name, target in leads.items() if not _defined(target, code.classes)}
    evidence = {"auto_map": leads, "usable": usable, "broken": broken, "offers": list(code.offers)}
    if usable and not broken:
        yield ok(
            CLASSES,
            text("{usable} can load it; {unusable} cannot.", usable=", ".join(usable), unusable=", ".join(unusable))
            if unusable
            else text("{usable} can load it.", usable=", ".join(usable)),
            **evidence,
        )
        return
    name, target = next(iter(broken.items()), ("", ""))
    yield bad(
        Status.WARN,
        "wrong-auto-class",
        text("No Auto class leads to the model's own code"),
        text("auto_map of config.json leads {name} to {target}, which is not in the folder.", name=name, target=target)
        if broken
        else text("auto_map of config.json names none of {names}; glmcore loads the model all the same.",
                  names=", ".join(MODELS)),
        **evidence,
    )  # fmt: skip


def _defined(target: str, code: Mapping[str, tuple[str, ...]]) -> bool:
    """Is module.Class among the folder's files? What another repository holds ("owner/name--module.Class") may be."""
    module, _, name = target.rpartition(".")
    return "--" in target or not module or name in code.get(f"{module}.py", ())


def methods(host: Machine) -> Iterator[Finding]:
    """Files of two revisions in one folder: the model's code calls what the tokenizer's code does not have."""
    code = known(host.own_code)
    missing = [name for name in code.asked_of_tokenizer if name not in code.tokenizer_offers]
    if not code.asked_of_tokenizer:
        yield skipped(METHODS, text("The model's code asks nothing of the tokenizer by a name of its own."))
    elif not missing:
        names = ", ".join(code.asked_of_tokenizer)
        yield ok(METHODS, text("The tokenizer has {names}, which the model's code calls.", names=names))
    else:
        yield bad(
            Status.WARN,
            "remote-code-api-changed",
            text("Model's and tokenizer's code are of different revisions"),
            text(
                "The model's code calls tokenizer.{names}, which the tokenizer's code does not have; "
                "glmcore uses neither.",
                names=", tokenizer.".join(missing),
            ),
            missing=missing,
            offers=list(code.tokenizer_offers),
        )


CHECKS = (
    Check("remote-code.classes", CLASSES, classes, problems=("wrong-auto-class",), needs=("checkpoint", "own_code")),
    Check(
        "remote-code.methods", METHODS, methods, problems=("remote-code-api-changed",), needs=("checkpoint", "own_code")
    ),
)
