"""config.json: the generation it describes, its defaults, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from golden_cases import CASES, GOLDEN, REST
from hypothesis import given
from hypothesis import strategies as st

from glmcore.config import NAMED, ModelConfig, find_config, recognise
from glmcore.errors import GlmError

CONFIGS = sorted([*(GOLDEN / case / "config.json" for case in CASES), *REST.glob("*/e2e/config.json")])
V1 = {"hidden_size": 64, "inner_hidden_size": 256, "num_attention_heads": 4, "num_layers": 3, "vocab_size": 130528,
      "bos_token_id": 130004, "eos_token_id": 130005, "mask_token_id": 130000, "gmask_token_id": 130001}  # fmt: skip
V2 = {"hidden_size": 64, "ffn_hidden_size": 176, "kv_channels": 16, "num_attention_heads": 4, "num_layers": 3,
      "multi_query_attention": True, "multi_query_group_num": 2, "padded_vocab_size": 65024}  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_golden_configurations_are_recognised(path: Path, tmp_path: Path) -> None:
    generation = path.parts[-3]
    assert ModelConfig.from_folder(path.parent).generation == generation
    raw = json.loads(path.read_text())
    assert recognise(raw) == generation
    # Also where a user saved it again under a path of their own.
    raw["_name_or_path"] = f"/home/me/glm4-tests/{raw['_name_or_path'].split('/')[-1]}-finetuned"
    assert recognise(raw) == generation


@pytest.mark.parametrize("extra, generation", [
    ({"_name_or_path": "THUDM/chatglm3-6b"}, "v3"),
    ({"_name_or_path": "THUDM/codegeex2-6b"}, "v2"),
    ({"_name_or_path": "ZhipuAI/glm-4-9b-chat", "padded_vocab_size": 512}, "glm4"),
    ({"padded_vocab_size": 151552, "_name_or_path": "chatglm3"}, "glm4"),
    ({"padded_vocab_size": 512, "eos_token_id": [1, 2, 3]}, "glm4"),
    ({"eos_token_id": [2, 64795, 64797]}, "v3"),
    ({"transformers_version": "4.27.1"}, "v2"),
    ({"transformers_version": "4.30.2"}, "v3"),
    ({"transformers_version": "4.40.2", "padded_vocab_size": 512}, "glm4"),
    ({"glmcore_generation": "v3", "_name_or_path": "chatglm2"}, "v3"),
    ({}, "v2"),
])  # fmt: skip
def test_order_of_evidence(extra: dict, generation: str) -> None:
    assert recognise({**V2, **extra}) == generation


@pytest.mark.parametrize("files, generation", [
    ({"tokenizer.model": "IQ== 0\nIg== 1\n"}, "glm4"),
    ({"tokenizer_config.json": '{"name_or_path": "THUDM/chatglm3-6b"}'}, "v3"),
    ({"tokenizer_config.json": '{"name_or_path": "THUDM/chatglm-6b"}'}, "v2"),  # ChatGLM2-6B's own says so
    ({"tokenization_chatglm.py": 'ROLES = ["<|observation|>"]'}, "v3"),
])  # fmt: skip
def test_files_in_the_folder_tell_the_generation(tmp_path: Path, files: dict, generation: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "config.json").write_text(json.dumps({**V2, "padded_vocab_size": 512}))
    assert ModelConfig.from_folder(folder).generation == generation


def test_a_folders_name_tells_where_nothing_else_does(tmp_path: Path) -> None:
    folder = tmp_path / "my-chatglm3-6b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(V2))
    assert ModelConfig.from_folder(folder).generation == "v3"


def test_published_shapes() -> None:
    v1, v2, v4 = NAMED["chatglm-6b"], NAMED["chatglm2-6b"], NAMED["glm-4-9b-chat"]
    assert (v1.num_layers, v1.num_kv_heads, v1.head_dim, v1.max_length) == (28, 32, 128, 2048)
    assert (v2.num_layers, v2.num_kv_heads, v2.ffn_hidden_size, v2.max_length) == (28, 2, 13696, 32768)
    assert (v4.num_layers, v4.vocab_size, v4.rope_ratio, v4.dtype) == (40, 151552, 500, "bfloat16")
    assert {name: config.generation for name, config in NAMED.items()}["codegeex2-6b"] == "v2"


def test_quantisation_defaults() -> None:
    assert ModelConfig.from_dict({**V2, "quantization_bit": 4}).quantization_bit == 4
    # This release leaves the key out and assumes 4.
    assert ModelConfig.from_dict({**V2, "_name_or_path": "THUDM/chatglm3-6b-32k-int4"}).quantization_bit == 4
    named = {**V2, "_name_or_path": "THUDM/chatglm3-6b-32k-int4", "quantization_bit": 0}
    assert ModelConfig.from_dict(named).quantization_bit == 0
    assert find_config("THUDM/chatglm-6b-int4-qe").embedding_bits == 4


@pytest.mark.parametrize("base, field, value", [
    (V2, "num_layers", -1), (V2, "num_layers", 10**9), (V2, "num_layers", "three"), (V2, "num_layers", 3.5),
    (V2, "num_layers", True), (V2, "hidden_size", 0), (V2, "hidden_size", 1e300), (V2, "kv_channels", []),
    (V2, "num_attention_heads", 0), (V2, "multi_query_group_num", 3), (V2, "padded_vocab_size", 2**40),
    (V2, "ffn_hidden_size", {"a": 1}), (V2, "layernorm_epsilon", float("nan")), (V2, "layernorm_epsilon", -1),
    (V2, "rmsnorm", "yes"), (V2, "quantization_bit", 3), (V2, "torch_dtype", "int8"), (V2, "seq_length", 0),
    (V2, "eos_token_id", 99999), (V2, "eos_token_id", []), (V2, "eos_token_id", "2"), (V2, "rope_ratio", 0),
    (V2, "rope_ratio", float("inf")), (V2, "pre_seq_len", -5),
    (V1, "num_attention_heads", 5), (V1, "inner_hidden_size", -4), (V1, "gmask_token_id", -1),
    (V1, "max_sequence_length", "2048"), (V1, "position_encoding_2d", 1), (V1, "vocab_size", 0),
])  # fmt: skip
def test_absurd_values_are_refused_by_name(base: dict, field: str, value: object) -> None:
    with pytest.raises(GlmError) as caught:
        ModelConfig.from_dict({**base, field: value})
    assert caught.value.code == "config-invalid"
    assert field in caught.value.what and "\n" not in caught.value.line() and len(caught.value.line()) < 300


def test_other_layouts_are_refused() -> None:
    with pytest.raises(GlmError, match="model_type is 'llama'"):
        ModelConfig.from_dict({**V2, "model_type": "llama"})


@pytest.mark.parametrize("content, code", [
    (None, "checkpoint-missing-file"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "checkpoint-lfs-pointer"),
    (b"<!DOCTYPE html><html></html>", "checkpoint-html"),
    (b'{"hidden_size": 64,', "config-invalid"),
    (b"[1, 2]", "config-invalid"),
    (b"\xff\xfe\x00", "config-invalid"),
    (b"[" * 100_000, "config-invalid"),
    (b'{"num_layers": ' + b"9" * 5000 + b"}", "config-invalid"),
    (b"", "config-invalid"),
])  # fmt: skip
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(GlmError) as caught:
        ModelConfig.from_folder(tmp_path)
    assert caught.value.code == code and "config.json" in caught.value.line()


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(GlmError) as caught:
            ModelConfig.from_folder(path)
        assert caught.value.code == "model-path" and str(path) in caught.value.line()


FIELDS = sorted({*V1, *V2, "eos_token_id", "torch_dtype", "quantization_bit", "_name_or_path", "rope_ratio"})
NUMBERS = st.integers() | st.floats()
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), st.sampled_from([V1, V2]))
def test_any_values_give_a_configuration_or_one_line(changes: dict, base: dict) -> None:
    try:
        config = ModelConfig.from_dict({**base, **changes})
    except GlmError as error:
        assert error.code == "config-invalid" and "\n" not in error.line()
    else:
        assert config.num_heads % config.num_kv_heads == 0 and config.head_dim % 4 == 0


def test_reading_a_configuration_imports_no_torch() -> None:
    code = "import sys, glmcore.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
