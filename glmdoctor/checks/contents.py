"""Each file of the checkpoint: is it whole, and does it hold tensors and nothing that runs?"""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import join

from glmcore.checkpoint import pickles
from glmdoctor.checks.base import Check, Machine, bad, known, ok, skipped
from glmdoctor.checks.checkpoint import INDEXES, NO_FILES
from glmdoctor.findings import Files, Finding, Status
from glmdoctor.host.facts import Checkpoint, CheckpointFile
from glmdoctor.messages import Text, text
from glmdoctor.readings.checkpoint import PICKLES, TRAINING, WEIGHTS, foreign, tokenizer

WHOLE = text("Contents of the checkpoint's files")
PICKLED = text("Weights in pickles")

CORE_FILES = ("config.json", "tokenizer_config.json", *INDEXES)

TITLES: dict[str, Text] = {
    "lfs-pointer-checkpoint": text("Git LFS pointers in place of files"),
    "html-instead-of-weights": text("A web page in place of a file"),
    "truncated-checkpoint": text("A file is cut or damaged"),
    "sentencepiece-model-corrupt": text("The tokenizer's file is damaged"),
}


def whole(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.readable:
        yield skipped(WHOLE, NO_FILES)
        return
    by_problem: dict[str, list[CheckpointFile]] = {}
    for file in checkpoint.files:
        problem = _file_problem(checkpoint, file)
        if problem:
            by_problem.setdefault(problem, []).append(file)
    for problem, faulty in by_problem.items():
        yield bad(
            Status.FAIL,
            problem,
            TITLES[problem],
            text("In {folder}: {files}.", folder=checkpoint.path, files="; ".join(map(_described, faulty[:4]))),
            Files(tuple(file.name for file in faulty)),
            files={file.name: file.fault or file.kind for file in faulty},
            folder=checkpoint.path,
        )
    calling = {file.name: names for file in checkpoint.files if (names := foreign(file))}
    if calling:
        yield _runs_code(checkpoint, calling)
    if not by_problem and not calling:
        size = f"{checkpoint.weight_bytes / 2**30:.2f} GiB"
        yield ok(WHOLE, text("{size} of weights, each file whole.", size=size), weight_bytes=checkpoint.weight_bytes)


def _file_problem(checkpoint: Checkpoint, file: CheckpointFile) -> str | None:
    needed = file.name.endswith((*WEIGHTS, ".model")) or file.name in CORE_FILES
    if foreign(file):  # unsafe, and not merely damaged
        return None
    if file.kind == "lfs-pointer":
        return "lfs-pointer-checkpoint"
    if file.kind == "html" and needed:
        return "html-instead-of-weights"
    if file.name == tokenizer(checkpoint) and _no_tokenizer(checkpoint, file):
        return "sentencepiece-model-corrupt"
    unreadable = pickles.UNREADABLE in file.imports and not TRAINING.match(file.name)
    damaged = file.kind == "empty" or unreadable or (file.fault is not None and file.kind != "missing")
    return "truncated-checkpoint" if damaged and needed else None


def _no_tokenizer(checkpoint: Checkpoint, file: CheckpointFile) -> bool:
    """GLM-4's tokenizer.model is a text of ranks, tokenizer.json is JSON; the others' are sentencepiece models."""
    ranked = checkpoint.generation == "glm4"
    wanted = "json" if file.name.endswith(".json") else "tiktoken" if ranked else "sentencepiece"
    return file.kind not in (wanted, "missing") or file.fault is not None


def _described(file: CheckpointFile) -> str:
    return f"{file.name} ({file.fault or file.kind}, {file.size} B)"


def _runs_code(checkpoint: Checkpoint, calling: dict[str, list[str]]) -> Finding:
    """A file that was changed on its way."""
    name, calls = next(iter(calling.items()))
    return bad(
        Status.FAIL,
        "unsafe-pickle",
        text("A weight file holds more than tensors"),
        text(
            "Loading {file} with pickle would call {calls}; glmcore refuses it. Do not load it elsewhere; "
            "fetch the published file.",
            file=join(checkpoint.path, name),
            calls=", ".join(calls[:6]),
        ),
        Files(tuple(calling)),
        files={name: "calls " + ", ".join(calls[:20]) for name, calls in calling.items()},
        imports=calling,
        folder=checkpoint.path,
    )


def pickled(host: Machine) -> Iterator[Finding]:
    """Weights in pickles are read by a torch that keeps what ``weights_only`` promises, or not at all."""
    checkpoint, torch = known(host.checkpoint), known(host.torch)
    # What is damaged or unsafe itself is said elsewhere: no torch reads it.
    sound = [file for file in checkpoint.files if not file.fault and not foreign(file)]
    names = [file.name for file in sound if file.kind in PICKLES and not TRAINING.match(file.name)]
    if not names or any(file.kind == "safetensors" for file in checkpoint.files):
        yield skipped(PICKLED, text("No weights of this model are read from pickles."))
    elif pickles.reads_safely(torch.version):
        yield ok(PICKLED, text("torch {version} reads them safely.", version=torch.version), version=torch.version)
    else:
        yield bad(
            Status.FAIL,
            "torch-unsafe-pickle",
            text("This torch does not read .bin files safely"),
            text(
                "torch {version} may run code in {file} (CVE-2025-32434, CVE-2026-24747); glmcore reads it with torch "
                "{wanted} or later. Update torch, or convert the files to safetensors.",
                version=torch.version,
                file=join(checkpoint.path, names[0]),
                wanted=".".join(map(str, pickles.SAFE_TORCH)),
            ),
            version=torch.version,
            files=names,
        )


CHECKS = (
    Check(
        "model.contents",
        WHOLE,
        whole,
        problems=(*TITLES, "unsafe-pickle"),
        needs=("checkpoint",),
    ),
    Check(
        "model.pickles",
        PICKLED,
        pickled,
        problems=("torch-unsafe-pickle",),
        needs=("checkpoint", "torch"),
    ),
)
