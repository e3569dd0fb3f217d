"""A checkpoint's folder: which of its files hold weights, and whether their pickles call what no tensor needs."""

from __future__ import annotations

import re

from glmcore.checkpoint import pickles
from glmdoctor.host.facts import Checkpoint, CheckpointFile

WEIGHTS = (".bin", ".safetensors", ".pt", ".pth")
# Kinds of files that hold tensors.
PICKLES = ("torch-zip", "torch-pickle")
TENSORS = ("safetensors", *PICKLES)
TOKENIZERS = {
    "v1": "ice_text.model",
    **dict.fromkeys(("v2", "v3", "glm4"), "tokenizer.model"),
    **dict.fromkeys(("glm4-hf", "glm-edge", "glm4-0414", "glm-z1"), "tokenizer.json"),
}

# What a training run leaves beside the weights; loading a model does not touch it.
TRAINING = re.compile(r"training_args|optimizer|scheduler|rng_state|scaler|trainer")


def tokenizer(checkpoint: Checkpoint) -> str | None:
    """The name of its tokenizer's file; None where the generation is not known."""
    return TOKENIZERS.get(checkpoint.generation or "")


def foreign(file: CheckpointFile) -> list[str]:
    """What the file's pickle calls besides what torch writes for tensors."""
    return [] if TRAINING.match(file.name) else list(pickles.foreign_calls(file.imports))
