"""The folder that ``--model`` names: is it there, and has it all files that its model needs?"""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import join

from glmdoctor.checks.base import Check, Machine, bad, known, maybe, ok, skipped
from glmdoctor.findings import Files, Finding, Status
from glmdoctor.host.facts import Checkpoint
from glmdoctor.messages import Text, text
from glmdoctor.readings.checkpoint import WEIGHTS, tokenizer

PATH = text("Model folder")
FILES = text("Files of the checkpoint")
NO_FILES = text("There is no folder of files to look at.")

SOME_WEIGHTS = "model.safetensors / pytorch_model.bin"  # either of them
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def path(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if checkpoint.exists and checkpoint.is_folder and checkpoint.readable:
        yield ok(PATH, text("{path}", path=checkpoint.path), path=checkpoint.path, files=len(checkpoint.files))
    elif not checkpoint.exists and checkpoint.generation:
        yield ok(
            PATH,
            text("{name} is known by its name; there is no folder of that name here.", name=checkpoint.path),
            path=checkpoint.path,
        )
    else:
        yield bad(
            Status.FAIL,
            "model-path-wrong",
            text("The model folder cannot be used"),
            text("{path} {fault}.", path=checkpoint.path, fault=_path_fault(checkpoint)),
            path=checkpoint.path,
        )
    os = maybe(host.os)
    if os and os.system == "Windows" and not checkpoint.path.isascii():
        yield bad(
            Status.WARN,
            "non-ascii-path",
            text("The path holds letters that sentencepiece cannot open"),
            text("{path} holds letters beyond ASCII; sentencepiece on Windows may not open it.", path=checkpoint.path),
            path=checkpoint.path,
        )


def _path_fault(checkpoint: Checkpoint) -> Text:
    if not checkpoint.exists:
        return text("does not exist")
    return text("cannot be listed by this user") if checkpoint.is_folder else text("is a file, not a folder")


def files(host: Machine) -> Iterator[Finding]:
    checkpoint = known(host.checkpoint)
    if not checkpoint.readable:
        yield skipped(FILES, NO_FILES)
        return
    names = {file.name for file in checkpoint.files if file.kind != "missing"}
    found = [*_missing_shards(checkpoint), *_missing_files(checkpoint, names), *_missing_tokenizer(checkpoint, names)]
    yield from found
    if not found:
        yield ok(FILES, text("{count} files; none is missing.", count=len(names)), files=sorted(names))


def _missing_shards(checkpoint: Checkpoint) -> Iterator[Finding]:
    shards = [file.name for file in checkpoint.files if file.kind == "missing"]
    folders = [file.name for file in checkpoint.files if file.kind == "missing" and file.fault]
    if folders:
        index = INDEXES[0] if INDEXES[0] in {file.name for file in checkpoint.files} else INDEXES[1]
        yield bad(
            Status.FAIL,
            "missing-shard",
            text("The index names a folder"),
            text(
                "The index in {folder} puts tensors into {names}, a folder and no shard: fetch the index again, "
                "and the shards that it names.",
                folder=checkpoint.path,
                names=", ".join(folders[:4]),
            ),
            Files((index, *folders)),
            files=[index, *folders],
        )
    elif shards:
        yield bad(
            Status.FAIL,
            "missing-shard",
            text("Shards are missing"),
            text(
                "The index names {count} that are not in {folder}: {names}.",
                count=len(shards),
                folder=checkpoint.path,
                names=", ".join(shards[:4]),
            ),
            Files(tuple(shards)),
            files=shards,
        )


def _missing_files(checkpoint: Checkpoint, names: set[str]) -> Iterator[Finding]:
    weights = [name for name in names if name.endswith(WEIGHTS)]
    indexed = any(file.kind == "missing" for file in checkpoint.files)
    absent = [] if "config.json" in names else ["config.json"]
    absent += [] if weights or indexed else [SOME_WEIGHTS]
    if absent:
        yield bad(
            Status.FAIL,
            "missing-checkpoint-file",
            text("Files of the checkpoint are missing"),
            text("{folder} has no {names}.", folder=checkpoint.path, names=", ".join(absent)),
            Files(tuple(name for name in absent if name != SOME_WEIGHTS)),
            files=absent,
        )


def _missing_tokenizer(checkpoint: Checkpoint, names: set[str]) -> Iterator[Finding]:
    wanted = tokenizer(checkpoint)
    if wanted and wanted not in names:
        yield bad(
            Status.FAIL,
            "missing-tokenizer-file",
            text("The tokenizer's file is missing"),
            text("{path} is not there.", path=join(checkpoint.path, wanted)),
            Files((wanted,)),
            files=[wanted],
        )


CHECKS = (
    Check("model.path", PATH, path, problems=("model-path-wrong", "non-ascii-path"), needs=("checkpoint",)),
    Check(
        "model.files",
        FILES,
        files,
        problems=("missing-shard", "missing-checkpoint-file", "missing-tokenizer-file"),
        needs=("checkpoint",),
    ),
)
