"""Files of transformers' own layout that are damaged, mixed up or of other models: one line that names the place."""

from __future__ import annotations

import pytest
import torch
from family_cases import CASES, copied

from glmcore.checkpoint import open_checkpoint
from glmcore.config import ModelConfig, find_config
from glmcore.errors import GlmError

K = "model.layers.1.self_attn.k_proj.weight"
NORM = "model.layers.0.post_mlp_layernorm.weight"


def refusal(folder) -> str:
    with pytest.raises(GlmError) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return f"{caught.value.code}: {caught.value}"


def take(tensors, name):
    del tensors[name]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (lambda t: take(t, K), f"has no {K}"),
        (lambda t: take(t, NORM), f"has no {NORM}"),
        (lambda t: t.update({K: t[K][:-2].clone()}), f"{K} with shape [62, 64], config.json asks for [64, 64]"),
        (lambda t: t.update({K: t[K].half()}), "which make up one matrix"),
        (lambda t: t.update({K: t[K].to(torch.int8)}), f"{K} as int8"),
        (lambda t: t.update({f"{K}.7": torch.zeros(2)}), f"holds {K}.7, which config.json has no place for"),
        (lambda t: t.update({"transformer.x": torch.zeros(1)}), "in the original layout"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named_as_the_file_has_them(tmp_path, weights, said):
    line = refusal(copied("glm4-0414", tmp_path, weights=weights))
    assert line.startswith("checkpoint-mismatch") and said in line


def test_original_weights_beside_a_configuration_of_transformers_are_called_so(tmp_path):
    renamed = {"weights": lambda t: [t.update({k.replace("model.", "transformer."): t.pop(k)}) for k in list(t)]}
    line = refusal(copied("glm4-hf", tmp_path, **renamed))
    assert "is in the original layout, config.json describes transformers' own layout" in line


def test_a_configuration_of_the_original_beside_weights_of_transformers_is_called_so(tmp_path):
    def original(raw):
        raw.clear()
        raw.update(
            model_type="chatglm", num_layers=2, padded_vocab_size=160, hidden_size=64, ffn_hidden_size=96,
            kv_channels=32, num_attention_heads=4, multi_query_attention=True, multi_query_group_num=2,
        )  # fmt: skip

    line = refusal(copied("glm4-hf", tmp_path, config=original))
    assert "is in transformers' own layout, config.json describes the original layout" in line


ABSURD = [
    ("num_key_value_heads", 0), ("num_key_value_heads", 3), ("num_attention_heads", 10**9), ("head_dim", 6),
    ("head_dim", "128"), ("num_hidden_layers", 10**12), ("hidden_act", "gelu"), ("rope_theta", float("nan")),
    ("rope_theta", True), ("partial_rotary_factor", 0), ("partial_rotary_factor", 1.5), ("partial_rotary_factor", 0.01),
    ("rope_parameters", [1]), ("rope_parameters", {"rope_type": "llama3"}), ("rope_scaling", {"type": "yarn"}),
    ("rope_scaling", {"type": "yarn", "factor": -4, "original_max_position_embeddings": 64}),
    ("rope_scaling", {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "mscale": 1}),
    ("attention_bias", "yes"), ("vocab_size", -1), ("eos_token_id", [10**6]), ("torch_dtype", "int3"),
    ("quantization_config", {"quant_method": "gptq", "bits": 4}), ("quantization_config", "int4"),
    ("quantization_config", {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": 1}),
    ("rms_norm_eps", 0),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), ABSURD)
def test_absurd_numbers_are_refused_by_their_key(tmp_path, key, value):
    line = refusal(copied("glm4-hf", tmp_path, config=lambda raw: raw.update({key: value})))
    assert line.startswith("config-invalid")


def test_a_shard_cut_short_is_named(tmp_path):
    folder = copied("glm-edge", tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    assert refusal(folder).startswith("checkpoint-damaged")


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_that_is_missing_is_named(tmp_path, case):
    folder = copied(case, tmp_path)
    with open_checkpoint(folder) as checkpoint:
        names = list(checkpoint.holders)
    for place, name in enumerate(names[::5]):
        line = refusal(copied(case, tmp_path / str(place), weights=lambda t, name=name: take(t, name)))
        assert f"has no {name}" in line


@pytest.mark.parametrize(
    ("kind", "said"),
    [("glm4_moe", "mixture of experts"), ("glm4_moe_lite", "GLM-4.7-Flash"), ("glm_moe_dsa", "GLM-5"),
     ("glm4v", "vision model"), ("llama", "not 'chatglm', 'glm' or 'glm4'")],
)  # fmt: skip
def test_models_that_are_not_ours_are_named_with_who_runs_them(kind, said):
    with pytest.raises(GlmError) as caught:
        ModelConfig.from_dict({"model_type": kind})
    assert said in str(caught.value) and caught.value.code == "config-invalid"
    assert kind == "llama" or "runs it" in str(caught.value)


@pytest.mark.parametrize("name", ["zai-org/GLM-4.7-Flash", "GLM-4.5-Air", "GLM-4.1V-9B-Thinking", "zai-org/GLM-5"])
def test_and_by_their_names_alone(name):
    with pytest.raises(GlmError, match="which glmcore does not run"):
        find_config(name)
