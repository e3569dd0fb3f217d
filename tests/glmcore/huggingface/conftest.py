"""What the tests of this folder load: the golden checkpoints through the Auto classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from golden_cases import GOLDEN, rest

pytest.importorskip("transformers")
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import glmcore.huggingface  # noqa: F401  (registers the classes)


@pytest.fixture(autouse=True)
def quiet(recwarn):
    transformers.logging.set_verbosity_error()


@pytest.fixture
def load():
    """A golden case's model in float32 and its golden tensors."""

    def make(case: str, **changes):
        model = AutoModelForCausalLM.from_pretrained(GOLDEN / case, torch_dtype=torch.float32, **changes).eval()
        return model, load_file(GOLDEN / case / "golden.safetensors")

    return make


@pytest.fixture
def chat_folder(tmp_path):
    """A checkpoint with its tokenizer, as users have it; ``poisoned`` code lies beside them."""

    def make(generation: str) -> Path:
        folder = tmp_path / generation
        shutil.copytree(rest(generation, "e2e"), folder)
        for path in (rest(generation, "tokenizer")).glob("*token*.*"):
            shutil.copy(path, folder)
        for path in (rest(generation, "tokenizer")).glob("*.model"):
            shutil.copy(path, folder)
        for name in ("configuration_chatglm", "modeling_chatglm", "tokenization_chatglm", "quantization"):
            (folder / f"{name}.py").write_text(
                f"open({str(folder / 'poisoned')!r}, 'w')\nraise SystemExit('executed')\n"
            )
        return folder

    return make
