"""Quantised checkpoints of transformers' own layout: read back here, and by transformers with compressed-tensors."""

from __future__ import annotations

import json

import family_cases
import pytest
import torch
from family_cases import CASES, FAMILY

from glmcore.checkpoint import open_checkpoint
from glmcore.errors import GlmError
from glmcore.place import load_model, quantize_checkpoint

DOWN = "model.layers.0.mlp.down_proj.weight"


def quantised(case, folder, kind):
    target = folder / f"{case}-{kind}"
    with open_checkpoint(FAMILY / case) as source:
        quantize_checkpoint(source, target, kind)
    return target


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_it_is_what_loading_quantises(tmp_path, case, kind):
    stored, made = load_model(quantised(case, tmp_path, kind)), load_model(FAMILY / case, quantize=kind)
    assert stored.config.generation == made.config.generation
    for ours, theirs in zip(stored.layers, made.layers, strict=True):
        for name, tensor in theirs.state_dict().items():
            assert ours.state_dict()[name].equal(tensor), name


@pytest.mark.parametrize("case", ["glm4-hf", "glm-edge", "glm-z1-yarn"])
@pytest.mark.parametrize("kind", ["int8", "int4"])
@torch.no_grad()
def test_transformers_reads_it_back(tmp_path, case, kind):
    pytest.importorskip("compressed_tensors", reason="needs compressed-tensors")
    from transformers import AutoModelForCausalLM

    folder, ids = quantised(case, tmp_path, kind), family_cases.results(case)["input_ids"]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    logits = load_model(folder, dtype="float32")(ids)
    assert (logits - theirs(ids).logits).abs().max() < 2e-3  # scales of 16 bits, multiplied in another order


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (lambda t: t.pop("model.layers.0.self_attn.v_proj.weight_scale"), "v_proj.weight_scale: the scales"),
        (lambda t: t.pop(f"{DOWN}_packed"), f"has no {DOWN}_packed"),
        (lambda t: t.update({f"{DOWN}_packed": torch.zeros(64, 12)}), "int4 in words"),
        (lambda t: t.update({f"{DOWN}_packed": torch.zeros(64, 11).int()}), "[64, 11]"),
    ],
)  # fmt: skip
def test_damaged_ones_are_one_line(tmp_path, weights, said):
    from safetensors.torch import load_file, save_file

    folder = quantised("glm4-0414", tmp_path, "int4")
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    weights(tensors)
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    path.unlink()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(GlmError) as caught:
        open_checkpoint(folder)
    assert said in str(caught.value) and caught.value.code == "checkpoint-mismatch"


def test_the_configuration_says_what_the_weights_are(tmp_path):
    folder = quantised("glm4-hf", tmp_path, "int4")
    raw = json.loads((folder / "config.json").read_text())
    raw.pop("quantization_config")
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(GlmError, match=r"has no model\.layers\.0\.self_attn\.q_proj\.weight, which"):
        open_checkpoint(folder)
