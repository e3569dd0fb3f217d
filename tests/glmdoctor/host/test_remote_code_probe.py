"""How old a checkpoint's own code is, read from files written for the purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmdoctor.host.io import RealIO
from glmdoctor.host.probes.remote_code import marks

EARLY = """
class SPTokenizer:
    def __init__(self, path):
        self.sp_model = path

class ChatGLMTokenizer(PreTrainedTokenizer):
    def __init__(self, vocab_file, **kwargs):
        super().__init__(padding_side="left", **kwargs)
        self.tokenizer = SPTokenizer(vocab_file)

    @property
    def eos_token(self):
        return "</s>"

    def _pad(self, encoded_inputs, max_length=None, pad_to_multiple_of=None):
        return encoded_inputs
"""
LATE = """
class ChatGLMTokenizer(PreTrainedTokenizer):
    def __init__(self, vocab_file, **kwargs):
        self.tokenizer = SPTokenizer(vocab_file)
        super().__init__(**kwargs)

    def _pad(self, encoded_inputs, padding_side=None):
        return encoded_inputs
"""
OLD_MODEL = """
class ChatGLMForConditionalGeneration(ChatGLMPreTrainedModel):
    def __init__(self, config):
        self.max_sequence_length = config.max_length

    def _update_model_kwargs_for_generation(self, outputs, standardize_cache_format=False):
        return self._extract_past_from_model_output(outputs)
"""
NEW_MODEL = """
class ChatGLMForConditionalGeneration(ChatGLMPreTrainedModel, GenerationMixin):
    def __init__(self, config):
        self.post_init()
"""


def write(folder: Path, **files: str) -> tuple[str, ...]:
    for name, content in files.items():
        (folder / f"{name}.py").write_text(content, encoding="utf-8")
    return marks(RealIO(), str(folder))


def test_old_code_shows_its_age(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    assert write(tmp_path, tokenization_chatglm=EARLY, modeling_chatglm=OLD_MODEL) == (
        "present",
        "tokenizer-init-early",
        "pad-without-padding-side",
        "token-names-saved",
        "config-generation-names",
        "model-without-post-init",
        "model-without-generation-mixin",
        "cache-as-tuples",
    )


def test_new_code_shows_nothing(tmp_path: Path) -> None:
    assert write(tmp_path, tokenization_chatglm=LATE, modeling_chatglm=NEW_MODEL) == ("present",)


def test_a_configuration_that_sets_the_names_itself(tmp_path: Path) -> None:
    own = "class ChatGLMConfig:\n    def __init__(self):\n        self.max_length = 2048\n"
    found = write(tmp_path, modeling_chatglm=OLD_MODEL, configuration_chatglm=own)
    assert "config-generation-names" not in found


def test_a_folder_without_code(tmp_path: Path) -> None:
    assert marks(RealIO(), str(tmp_path)) == ()


@pytest.mark.parametrize("content", ["class ChatGLMTokenizer(:", "\0", "(" * 5000, "x = 1"])
def test_files_that_are_no_tokenizer(tmp_path: Path, content: str) -> None:
    assert write(tmp_path, tokenization_chatglm=content)[0] == "present"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "modeling_chatglm.py").write_bytes(b"\xff\xfe\x80 post_init() GenerationMixin")
    assert "present" in marks(RealIO(), str(tmp_path))
