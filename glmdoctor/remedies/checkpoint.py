"""The checkpoint's files, its configuration, and a model that is too large."""

from __future__ import annotations

import posixpath
import re

from glmdoctor.findings import Files, Finding
from glmdoctor.host.facts import Checkpoint
from glmdoctor.readings.machine import Machine, maybe
from glmdoctor.remedies.answer import Answer, Beyond, Commands, words


def pull_lfs(finding: Finding, host: Machine) -> Commands:
    return tuple(words("git", "-C", folder, "lfs", "pull") for folder in _folder(host))


def fetch_again(finding: Finding, host: Machine) -> Commands:
    """By `glmdoctor fix`; on Windows by hand: damaged files moved aside, then what is missing fetched and verified."""
    checkpoint, files, os = maybe(host.checkpoint), finding.payload, maybe(host.os)
    name = hub_name(checkpoint) if checkpoint else None
    if checkpoint is None or name is None or not isinstance(files, Files):
        return ()
    if os is None or os.system != "Windows":
        return (words("glmdoctor", "fix", "--only", str(finding.problem), "--model", checkpoint.path),)
    present = {file.name for file in checkpoint.files if file.kind != "missing"}
    damaged = [posixpath.join(checkpoint.path, file) for file in files.names if file in present]
    aside = (words("mv", "-n", path, f"{path}.damaged") for path in damaged)
    return (*aside, words("glmcore", "download", name, "-o", checkpoint.path))


def hub_name(checkpoint: Checkpoint) -> str | None:
    """What the configuration or the folder says that the checkpoint is; None where neither tells."""
    said = str(checkpoint.config.get("_name_or_path", ""))
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", said, re.ASCII):
        return said
    folder = posixpath.basename(posixpath.normpath(checkpoint.path))
    return folder if re.fullmatch(r"(chatglm\d?-6b|codegeex2-6b|glm-4-9b)[\w-]*", folder, re.ASCII) else None


def correct(finding: Finding, host: Machine) -> Commands:
    return tuple(
        words("glmdoctor", "fix", "--only", str(finding.problem), "--model", folder) for folder in _folder(host)
    )


def smaller(finding: Finding, host: Machine) -> Commands:
    return tuple(words("glmcore", "chat", "--model", folder, "--quant", "int4") for folder in _folder(host))


def _folder(host: Machine) -> tuple[str, ...]:
    checkpoint = maybe(host.checkpoint)
    return (checkpoint.path,) if checkpoint else ()


FETCH = Answer(advice=fetch_again, beyond=Beyond.FILES)
CORRECT = Answer(advice=correct, beyond=Beyond.CONFIGURATION)
SMALLER = Answer(advice=smaller)
ANSWERS = {
    "lfs-pointer-checkpoint": Answer(advice=pull_lfs, beyond=Beyond.FILES),
    "truncated-checkpoint": FETCH,
    "unsafe-pickle": FETCH,
    "html-instead-of-weights": FETCH,
    "sentencepiece-model-corrupt": FETCH,
    "missing-shard": FETCH,
    "missing-checkpoint-file": FETCH,
    "missing-tokenizer-file": FETCH,
    "auto-map-points-to-hub": CORRECT,
    "hf-rope-theta-lost": CORRECT,
    "ram-oom": SMALLER,
    "process-killed-ram": SMALLER,
    "cuda-oom": SMALLER,
    "mps-oom": SMALLER,
}
