"""Adapters with random values, as the tests of several rooms want them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from glmcore.config import ModelConfig

LENGTH = 5  # tokens of the prefix


def linears(config: ModelConfig) -> list[str]:
    """A linear of the first layer and one of the second."""
    layers, attention = (
        ("transformer.layers", "attention")
        if config.generation == "v1"
        else ("transformer.encoder.layers", "self_attention")
    )
    return [f"{layers}.0.{attention}.query_key_value", f"{layers}.1.mlp.dense_4h_to_h"]


def write_lora(
    folder: Path, model, rank: int = 3, alpha: float = 6, layers: Sequence[int] = (0, 1), **settings
) -> dict[str, Tensor]:
    """A LoRA in PEFT's layout, on these ``layers``; returns what it adds to each weight."""
    torch.manual_seed(1)
    folder.mkdir(exist_ok=True)
    tensors, added = {}, {}
    for name in [linears(model.config)[layer] for layer in layers]:
        module = model.get_submodule(name)
        down, up = torch.randn(rank, module.in_features) * 0.3, torch.randn(module.out_features, rank) * 0.3
        tensors |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
        added[name] = alpha / rank * up @ down
    save_file(tensors, folder / "adapter_model.safetensors")
    raw = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["query_key_value"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**raw, **settings}))
    return added


def encoder(config: ModelConfig, projection: bool) -> dict[str, Tensor]:
    torch.manual_seed(2)
    width, inner = 2 * config.num_layers * config.num_kv_heads * config.head_dim, 24
    if not projection:
        return {"embedding.weight": torch.randn(LENGTH, width)}
    return {
        "embedding.weight": torch.randn(LENGTH, inner),
        "trans.0.weight": torch.randn(inner, inner) * 0.3, "trans.0.bias": torch.randn(inner),
        "trans.2.weight": torch.randn(width, inner) * 0.3, "trans.2.bias": torch.randn(width),
    }  # fmt: skip


def write_prefix(folder: Path, config: ModelConfig, projection: bool = False, file: str = "model.safetensors") -> Path:
    tensors = {f"transformer.prefix_encoder.{name}": tensor for name, tensor in encoder(config, projection).items()}
    folder.mkdir(exist_ok=True)
    if file.endswith(".bin"):
        torch.save(tensors, folder / file)
    else:
        save_file(tensors, folder / file)
    (folder / "config.json").write_text(json.dumps({"pre_seq_len": LENGTH, "prefix_projection": projection}))
    return folder
