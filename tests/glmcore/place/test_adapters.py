"""Adapters at run time: LoRA against merged weights, P-Tuning v2 against attention written out with concatenation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from adapter_folders import LENGTH, encoder, write_lora, write_prefix
from golden_cases import GOLDEN, rest
from safetensors.torch import load_file, save_file
from torch import Tensor

import glmcore
from glmcore.config import ModelConfig
from glmcore.errors import GlmError
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState
from glmcore.models.rope import glm1_rotation, glm2_rotation, rotate_halves, rotate_pairs
from glmcore.packing import dequantize
from glmcore.place import load_model
from glmcore.place.adapters import open_adapter

GENERATIONS = ("v1", "v2", "v3", "glm4")


def prompt_of(case: str) -> Tensor:
    return load_file(GOLDEN / case / "golden.safetensors")["prompt.input_ids"]


@pytest.mark.parametrize("case", [f"{g}/{k}" for g in GENERATIONS for k in ("base", "int8", "int4")])
def test_a_lora_equals_merged_weights(case: str, tmp_path: Path):
    model, merged = load_model(GOLDEN / case, dtype="float32"), load_model(GOLDEN / case, dtype="float32")
    plain = model(prompt_of(case))
    for name, delta in write_lora(tmp_path, model).items():
        packed = merged.get_submodule(name)
        weight = packed.weight
        if not weight.is_floating_point():
            weight = dequantize(weight, packed.weight_scale.float(), merged.config.quantization_bit)
        linear = torch.nn.Linear(packed.in_features, packed.out_features, bias=packed.bias is not None)
        linear.weight.data = weight + delta
        if packed.bias is not None:
            linear.bias.data = packed.bias.float()
        parent, _, attribute = name.rpartition(".")
        setattr(merged.get_submodule(parent), attribute, linear)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    open_adapter(tmp_path, model.config).apply(model)
    found = model(prompt_of(case))
    torch.testing.assert_close(found, merged(prompt_of(case)), rtol=0, atol=2e-4)
    assert (found - plain).abs().max() > 0.01
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_rank_and_alpha_of_single_layers_and_rslora(tmp_path: Path):
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    write_lora(tmp_path, model, rank=4, alpha=8, r=16, use_rslora=True, rank_pattern={"query_key_value": 4},
               alpha_pattern={"mlp.dense_4h_to_h": 2}, )  # fmt: skip
    with pytest.raises(GlmError, match=r"rank 4, adapter_config.json says 16"):
        open_adapter(tmp_path, model.config)
    settings = json.loads((tmp_path / "adapter_config.json").read_text()) | {"r": 4}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    factors = {name: scaling for name, (_, _, scaling) in open_adapter(tmp_path, model.config).layers.items()}
    assert list(factors.values()) == [8 / 2, 2 / 2]


def reference(model, ids: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Logits of ``ids`` after the prefix: attention written out, keys and values concatenated layer by layer."""
    config, count = model.config, ids.shape[1]
    rows = tensors["embedding.weight"]
    if "trans.0.weight" in tensors:
        inner = torch.tanh(F.linear(rows, tensors["trans.0.weight"], tensors["trans.0.bias"]))
        rows = F.linear(inner, tensors["trans.2.weight"], tensors["trans.2.bias"])
    past = rows.view(1, LENGTH, config.num_layers * 2, config.num_kv_heads, config.head_dim)
    past = past.permute([2, 0, 3, 1, 4]).split(2)  # per layer: key and value, [1, heads, LENGTH, head size]
    inputs = PositionState(config, ids).prompt()
    causal = torch.ones(count, count).tril().bool()[None, None]
    own = inputs["attention_mask"] if config.generation == "v1" else causal
    allowed = torch.cat((torch.ones(1, 1, count, LENGTH, dtype=torch.bool), own), dim=3)
    hidden = model.embedding(ids)
    rotate = rotate_halves if config.generation == "v1" else rotate_pairs
    rotation = (glm1_rotation if config.generation == "v1" else glm2_rotation)(
        config, inputs["position_ids"], torch.float32
    )
    alpha = 56**0.5
    for layer, (key_before, value_before) in zip(model.layers, past, strict=True):
        block = layer.attention if config.generation == "v1" else layer.self_attention
        normed = layer.input_layernorm(hidden)
        mixed = block.query_key_value(normed)
        if config.generation == "v1":
            query, key, value = (
                part.transpose(1, 2) for part in mixed.unflatten(-1, (config.num_heads, -1)).chunk(3, dim=-1)
            )
        else:
            query, key, value = block.split(mixed)
        query, key = rotate(query, rotation), rotate(key, rotation)
        key, value = torch.cat((key_before, key), dim=2), torch.cat((value_before, value), dim=2)
        key, value = (x.repeat_interleave(config.num_heads // config.num_kv_heads, dim=1) for x in (key, value))
        scores = (query @ key.transpose(2, 3) / config.head_dim**0.5).masked_fill(~allowed, -torch.inf)
        out = block.dense((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        hidden = normed * alpha + out if config.generation == "v1" else hidden + out
        normed = layer.post_attention_layernorm(hidden)
        hidden = normed * alpha + layer.mlp(normed) if config.generation == "v1" else hidden + layer.mlp(normed)
    return model.lm_head(model.final_norm(hidden))


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_prefix_equals_explicit_concatenation(generation: str, projection: bool, tmp_path: Path):
    case = f"{generation}/base"
    model, ids = load_model(GOLDEN / case, dtype="float32"), prompt_of(case)
    plain = model(ids)
    wanted = reference(model, ids, encoder(model.config, projection))
    file = "pytorch_model.bin" if projection else "model.safetensors"
    open_adapter(write_prefix(tmp_path, model.config, projection, file), model.config).apply(model)
    torch.testing.assert_close(model(ids), wanted, rtol=0, atol=3e-4)
    assert (plain - wanted).abs().max() > 0.01


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_prefix_stays_before_the_cache_in_chunks_and_steps(generation: str, tmp_path: Path):
    case = f"{generation}/base"
    model, ids = load_model(GOLDEN / case, dtype="float32"), prompt_of(case)
    open_adapter(write_prefix(tmp_path, model.config), model.config).apply(model)
    following = torch.tensor([[7, 9, 11]])
    cache, state = KVCache(model.config, 1, ids.shape[1]), PositionState(model.config, ids)
    for _ in range(2):  # the second time the cache is used again, and the prefix must still be there once
        cache.length, state = 0, PositionState(model.config, ids)
        model(ids, cache=cache, **state.prompt())
        cache.reserve(ids.shape[1] + 3)
        stepped = [model(token, cache=cache, **state.step(token)) for token in following.split(1, dim=1)]
    assert cache.length == ids.shape[1] + 3 and cache.keys[0].shape[2] == LENGTH + cache.capacity
    if generation != "v1":
        wanted = reference(model_without_prefix(model), torch.cat((ids, following), 1), encoder(model.config, False))
        torch.testing.assert_close(torch.cat(stepped, dim=1), wanted[:, -3:], rtol=0, atol=3e-4)


def model_without_prefix(model):
    model.prefix = None
    return model


def test_a_padded_batch_sees_the_prefix(tmp_path: Path):
    case = "v2/base"
    data = load_file(GOLDEN / case / "golden.safetensors")
    model = load_model(GOLDEN / case, dtype="float32")
    open_adapter(write_prefix(tmp_path, model.config), model.config).apply(model)
    ids, keep, lengths = data["batch.input_ids"], data["batch.attention_mask"], data["batch.lengths"].tolist()
    found = model(ids, **PositionState(model.config, ids, keep).prompt())
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, -length:])
        torch.testing.assert_close(found[row, -length:], alone[0], rtol=0, atol=3e-4)


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_the_engine_chats_with_an_adapter(kind: str, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    for source in (*(rest("v2", "e2e")).iterdir(), *(rest("v2", "tokenizer")).iterdir()):
        shutil.copy(source, folder / source.name)
    adapter = tmp_path / "adapter"
    if kind == "lora":
        write_lora(adapter, load_model(folder, dtype="float32"), alpha=200)
    else:
        write_prefix(adapter, ModelConfig.from_folder(folder))
    messages = [{"role": "user", "content": "你好"}]
    plain, adapted = glmcore.load(folder), glmcore.load(folder, adapter=adapter)
    first = adapted.chat(messages, max_new_tokens=8, temperature=0)
    assert first != plain.chat(messages, max_new_tokens=8, temperature=0)
    assert first == adapted.chat(messages, max_new_tokens=8, temperature=0)


def damage(folder: Path, kind: str) -> None:
    settings = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    first = next(name for name in tensors if "lora_A" in name)
    if kind == "rank":
        settings["r"] = 8
    elif kind == "alpha":
        settings["lora_alpha"] = "much"
    elif kind == "peft":
        settings["peft_type"] = "IA3"
    elif kind == "dora":
        settings["use_dora"] = True
    elif kind == "pattern":
        settings["alpha_pattern"] = {"(a+)+$": 2}
    elif kind == "half":
        del tensors[first]
    elif kind == "shape":
        tensors[first] = torch.zeros(3, 5)
    elif kind == "target":
        tensors = {name.replace("query_key_value", "q_proj"): tensor for name, tensor in tensors.items()}
    elif kind == "bias":
        tensors["base_model.model.transformer.encoder.layers.0.mlp.dense_4h_to_h.bias"] = torch.zeros(4)
    elif kind == "integers":
        tensors[first] = tensors[first].to(torch.int8)
    elif kind == "nothing":
        tensors = {}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "adapter_model.safetensors")
    if kind == "missing":
        (folder / "adapter_model.safetensors").unlink()
    elif kind == "pointer":
        (folder / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


MISFITS = {
    "rank": "rank 3, adapter_config.json says 8", "alpha": "lora_alpha is 'much'", "peft": "peft_type is 'IA3'",
    "dora": "use_dora", "pattern": "alpha_pattern", "half": "has no lora_A for", "shape": r"matrices \[3, 5\]",
    "target": "q_proj, which is no linear layer", "bias": "dense_4h_to_h.bias", "integers": "holds no floats",
    "nothing": "holds no LoRA", "missing": "adapter_model.safetensors is missing", "pointer": "Git LFS pointer",
}  # fmt: skip


@pytest.mark.parametrize("kind", MISFITS)
def test_a_lora_that_does_not_fit_is_named(kind: str, tmp_path: Path):
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    write_lora(tmp_path, model)
    damage(tmp_path, kind)
    with pytest.raises(GlmError, match=MISFITS[kind]):
        open_adapter(tmp_path, model.config)


def test_adapters_of_another_generation_are_refused(tmp_path: Path):
    first, second = (ModelConfig.from_folder(GOLDEN / generation / "base") for generation in ("v1", "v2"))
    write_lora(
        tmp_path / "lora", load_model(GOLDEN / "v1" / "base", dtype="float32"), base_model_name_or_path="THUDM/x"
    )
    with pytest.raises(GlmError, match=r"no linear layer of .* trained for THUDM/x"):
        open_adapter(tmp_path / "lora", second)
    with pytest.raises(GlmError, match=r"embedding.weight has the shape .* was trained for another model"):
        open_adapter(write_prefix(tmp_path / "prefix", first), second)
    projected = write_prefix(tmp_path / "projected", first, projection=True)
    with pytest.raises(GlmError, match=r"trans.2.weight has the shape"):
        open_adapter(projected, second)
    (projected / "config.json").write_text('{"pre_seq_len": 128}')
    with pytest.raises(GlmError, match=r"the prefix has 5 tokens, pre_seq_len is 128"):
        open_adapter(projected, first)
    with pytest.raises(GlmError, match=r"neither adapter_config.json nor a prefix_encoder"):
        open_adapter(GOLDEN / "v2" / "base", second)
    with pytest.raises(GlmError, match="does not exist"):
        open_adapter(tmp_path / "nowhere", second)
