"""Models of transformers over several devices: accelerate's hooks give way to the executor of ``place``.

There is one device here. The hooks are accelerate's own, of weights kept away from the device that computes; the map
that names several devices is a double for what accelerate says on a machine with cards.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_cases import GOLDEN
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from glmcore.huggingface.placing import placement_of, run_where_it_lies
from glmcore.layout import pieces
from glmcore.quant.halves import HalfLinear

accelerate = pytest.importorskip("accelerate")
GENERATIONS = ["v1", "v2", "v3", "glm4"]


def spread(model: Any) -> Any:
    """As accelerate leaves a model: hooks, the weights of most layers not there, and a map of devices."""
    names = [piece.module for piece in pieces(model.native.config)]
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)
    half = len(names) // 2
    model.hf_device_map = {name: "cpu:0" if number < half else "cpu:1" for number, name in enumerate(names)}
    assert any(tensor.is_meta for tensor in model.state_dict().values())
    return model


@pytest.mark.parametrize("kind", ["base", "int4"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_piece_computes_where_it_lies(load, tmp_path, generation: str, kind: str) -> None:
    model, data = load(f"{generation}/{kind}")
    ids = data["prompt.input_ids"]
    with torch.inference_mode():
        wanted, tokens = model(input_ids=ids).logits, model.generate(ids, max_new_tokens=4, do_sample=False)
    run_where_it_lies(spread(model))
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
    hops = 2 if model.native.config.tie_embeddings else 1  # a tied head lies with the embedding
    assert model.native.hops.count == hops and torch.equal(logits, wanted)
    assert torch.equal(model.generate(ids, max_new_tokens=4, do_sample=False), tokens)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, torch_dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(again(input_ids=ids).logits, wanted)


def test_sixteen_bits_stay_and_are_computed_in_float32_by_the_kernel() -> None:
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "v2" / "base", torch_dtype=torch.float16).eval()
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run_where_it_lies(spread(model))
    model.use_kernel()
    layer = model.native.layers[0].mlp.dense_h_to_4h
    assert isinstance(layer, HalfLinear) and layer.kernel is not None
    assert all(torch.equal(tensor, held[name]) for name, tensor in model.state_dict().items())
    data = load_file(GOLDEN / "v2" / "base" / "golden.safetensors")
    with torch.inference_mode():
        logits = model(input_ids=data["prompt.input_ids"]).logits
    # Weights rounded to 16 bits, all else in float32: far nearer than float16 throughout.
    assert logits.dtype == torch.float32 and (logits - data["prompt.logits"]).abs().max() < 2e-3


def test_adapters_train_on_a_model_over_several_devices(load) -> None:
    peft = pytest.importorskip("peft")
    model, data = load("v3/base")
    run_where_it_lies(spread(model))
    settings = peft.LoraConfig(r=2, target_modules=["query_key_value"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, settings)
    ids = data["prompt.input_ids"]
    adapted(input_ids=ids, labels=ids).loss.backward()
    grown = [parameter for name, parameter in adapted.named_parameters() if "lora_B" in name]
    assert grown and all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in grown)


@pytest.mark.parametrize(
    "changed",
    [
        {"transformer.output_layer": "disk"},
        {"transformer.encoder.layers.0.mlp": "cpu:1"},
        {"transformer.output_layer": "mps"},
    ],
)
def test_what_no_plan_says_stays_accelerates(load, changed: dict) -> None:
    config = load("v2/base")[0].native.config
    one = {"transformer.embedding": "cpu:0", "transformer.encoder": "cpu:0", "transformer.output_layer": "cpu:0"}
    assert placement_of(config, one) is None
    assert placement_of(config, {**one, "transformer.output_layer": 0})["lm_head"] == "cuda:0"
    assert placement_of(config, {**one, "transformer.encoder": "cpu:1", **changed}) is None
