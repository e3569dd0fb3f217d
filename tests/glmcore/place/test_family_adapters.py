"""LoRA of PEFT on transformers' own classes: the same logits here, where query, key and value are one matrix."""

from __future__ import annotations

import family_cases
import pytest
import torch
from family_cases import FAMILY

from glmcore.errors import GlmError
from glmcore.place import load_model
from glmcore.place.adapters import open_adapter

TARGETS = [["q_proj", "v_proj"], ["k_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]]


def trained(case, folder, targets):
    """An adapter of PEFT whose matrices are random, and the logits that it gives."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(FAMILY / case, dtype=torch.float32, attn_implementation="eager")
    settings = LoraConfig(r=4, lora_alpha=10, target_modules=targets, alpha_pattern={"v_proj": 3, "q_proj": 20})
    model = get_peft_model(base, settings).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        logits = model(family_cases.results(case)["input_ids"]).logits
    model.save_pretrained(folder)
    return logits


@pytest.mark.parametrize("case", ["glm4-hf", "glm-edge", "glm4-0414"])
@pytest.mark.parametrize("targets", TARGETS, ids=len)
@torch.no_grad()
def test_logits_are_those_of_peft(tmp_path, case, targets):
    logits, golden = trained(case, tmp_path, targets), family_cases.results(case)
    model = load_model(FAMILY / case, dtype="float32")
    open_adapter(tmp_path, model.config).apply(model)
    found = model(golden["input_ids"])
    assert (found - logits).abs().max() < 2e-4
    assert (found - golden["logits"]).abs().max() > 0.1


def test_an_adapter_of_another_shape_is_one_line(tmp_path):
    trained("glm-edge", tmp_path, ["k_proj"])  # one group of keys, where the other has two
    with pytest.raises(GlmError, match=r"self_attn\.k_proj has matrices"):
        open_adapter(tmp_path, load_model(FAMILY / "glm4-hf").config)
