"""Make the golden data of the models that transformers computes itself (tests/golden/family).

    python scripts/golden_family.py [FOLDER]

Each case is a small random checkpoint, written by transformers from a seed, and ``results.safetensors``: what
transformers' own classes give for it in float32 on one thread. Nothing here imports glmcore.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden" / "family"
SIZES: dict[str, Any] = {
    "vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256, "pad_token_id": 3,
    "eos_token_id": [157, 158, 159],
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
# What each published model does differently from the others.
PLAIN, SANDWICH = {"attention_bias": False, "rms_norm_eps": 1e-5}, {"attention_bias": True, "rms_norm_eps": 1e-5}
HALF = {"rope_theta": 1e4, "partial_rotary_factor": 0.5}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "glm4-hf": ("glm", {"attention_bias": True}, {**HALF, "rope_theta": 5e6}),
    "glm-edge": ("glm", {**PLAIN, "tie_word_embeddings": True, "num_key_value_heads": 1},
                 {**HALF, "partial_rotary_factor": 1.0}),
    "glm4-0414": ("glm4", SANDWICH, HALF),
    "glm4-0414-32b": ("glm4", PLAIN, HALF),
    "glm-z1-yarn": ("glm4", SANDWICH, {**HALF, **YARN}),
}  # fmt: skip
CLASSES = {"glm": (GlmConfig, GlmForCausalLM), "glm4": (Glm4Config, Glm4ForCausalLM)}
NEW_TOKENS = 12


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Weights of a size that lets every part of the model show in the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(1 + 0.2 * values if "norm" in name else 0.15 * values)


def write_checkpoint(folder: Path, case: str, seed: int) -> None:
    kind, switches, rope = CASES[case]
    config_class, model_class = CLASSES[kind]
    model = model_class(config_class(**SIZES | switches, rope_parameters={"rope_type": "default", **rope}))
    randomise(model, seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    respell(folder / "config.json", rope)


def respell(path: Path, rope: dict[str, Any]) -> None:
    """The keys of the rotary embedding as the published files have them, which transformers 4 wrote."""
    raw = json.loads(path.read_text())
    if "factor" not in rope:  # YaRN's stay as transformers 5 writes them, so that both spellings are read
        del raw["rope_parameters"]
        raw |= rope
        raw["torch_dtype"] = raw.pop("dtype")
    path.write_text(json.dumps(raw, indent=1, sort_keys=True) + "\n")


@torch.no_grad()
def results(folder: Path, seed: int) -> dict[str, Tensor]:
    """What transformers gives: a batch, the same padded on the left, its caches, and what it goes on with."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(4, 150, (2, 21), generator=torch.Generator().manual_seed(seed))
    out = model(ids, use_cache=True, output_hidden_states=True)
    lengths = (21, 13)
    keep = torch.tensor([[0] * (21 - n) + [1] * n for n in lengths])
    padded = torch.where(keep.bool(), ids, torch.tensor(SIZES["pad_token_id"]))
    positions = (keep.cumsum(1) - 1).clamp_min(0)
    beside = model(padded, attention_mask=keep, position_ids=positions).logits
    settings: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}
    found = {
        "input_ids": ids, "logits": out.logits, "padded.input_ids": padded, "padded.attention_mask": keep,
        "padded.logits": beside[:, -1], "greedy": model.generate(ids, attention_mask=torch.ones_like(ids), **settings),
        "padded.greedy": model.generate(padded, attention_mask=keep, **settings),
    }  # fmt: skip
    for layer, cached in enumerate(out.past_key_values.layers):
        found |= {f"keys.{layer}": cached.keys, f"values.{layer}": cached.values}
        found[f"hidden.{layer}"] = out.hidden_states[layer]
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed, case in enumerate(CASES, start=2025):
        folder = options.folder / case
        folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(folder, case, seed)
        save_file(results(folder, seed), folder / "results.safetensors")
        print(f"{case}: {sum(path.stat().st_size for path in folder.iterdir()) // 1024} KiB")


if __name__ == "__main__":
    main()
