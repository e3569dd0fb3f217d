"""GlmForCausalLM and Glm4ForCausalLM against what transformers' own classes give for the same files."""

from __future__ import annotations

import family_cases
import pytest
import torch
from family_cases import CASES, FAMILY
from safetensors.torch import load_file

from glmcore.checkpoint import open_checkpoint
from glmcore.config import NAMED, ModelConfig, find_config
from glmcore.models.cache import KVCache
from glmcore.place.loader import load_model
from glmcore.quant.schemes import quantize_rows

CLOSE = 2e-4  # of logits that reach 5
GENERATIONS = {
    "glm-edge": "glm-edge", "glm-z1-yarn": "glm-z1", "glm4-0414": "glm4-0414", "glm4-0414-32b": "glm4-0414",
    "glm4-hf": "glm4-hf",
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE)


@torch.no_grad()
def test_logits_states_and_caches_are_those_of_transformers(case):
    golden, model = family_cases.results(case), load_model(FAMILY / case, dtype="float32")
    cache, states = KVCache(model.config, 2, 32), []
    logits = model(golden["input_ids"], cache=cache, states=states)
    assert near(logits, golden["logits"])
    for layer in range(model.config.num_layers):
        assert near(states[layer], golden[f"hidden.{layer}"])
        for kind in ("keys", "values"):
            assert near(getattr(cache, kind)[layer][:, :, :21], golden[f"{kind}.{layer}"])


@torch.no_grad()
def greedy(model, ids, keep=None):
    """As many tokens as transformers made, one by one on a cache."""
    from glmcore.models.inputs import PositionState

    places = PositionState(model.config, ids, keep)
    cache, inputs, out = KVCache(model.config, len(ids), 64), places.prompt(), [ids]
    for _ in range(12):
        token = model(out[-1], cache=cache, last_only=True, **inputs)[:, -1].argmax(-1, keepdim=True)
        inputs = places.step(token)
        out.append(token)
    return torch.cat(out, dim=1)


def test_greedy_tokens_are_those_of_transformers_alone_and_padded(case):
    golden, model = family_cases.results(case), load_model(FAMILY / case, dtype="float32")
    assert greedy(model, golden["input_ids"]).equal(golden["greedy"])
    padded = greedy(model, golden["padded.input_ids"], golden["padded.attention_mask"])
    assert padded.equal(golden["padded.greedy"])


@torch.no_grad()
def test_a_padded_batch_gives_the_logits_of_transformers(case):
    golden, model = family_cases.results(case), load_model(FAMILY / case, dtype="float32")
    keep = golden["padded.attention_mask"]
    places = (keep.cumsum(1) - 1).clamp_min(0)
    logits = model(golden["padded.input_ids"], position_ids=places, attention_mask=keep)
    assert near(logits[:, -1], golden["padded.logits"])


def test_the_generation_is_read_from_the_files(case):
    assert ModelConfig.from_folder(FAMILY / case).generation == GENERATIONS[case]


def test_query_key_and_value_are_joined_in_this_order(case):
    raw = load_file(FAMILY / case / "model.safetensors")
    parts = [raw[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    name = "transformer.encoder.layers.1.self_attention.query_key_value.weight"
    with open_checkpoint(FAMILY / case) as checkpoint:
        whole = checkpoint.tensor(name)
        assert whole.equal(torch.cat(parts))
        assert checkpoint.info(name).shape == whole.shape
        assert checkpoint.tensor(name, 100, 150).equal(whole[100:150])  # over the border of query and key


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_quantised_while_loading_is_quantised_as_one_matrix(case, bits):
    raw = load_file(FAMILY / case / "model.safetensors")
    model = load_model(FAMILY / case, quantize=f"int{bits}")
    whole = torch.cat([raw[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "qkv"])
    packed, scale = quantize_rows(whole, bits)
    linear = model.layers[0].self_attention.query_key_value
    assert linear.weight.equal(packed) and linear.weight_scale.equal(scale)
    assert model.lm_head.bits == 8 and (model.lm_head.weight is model.embedding.weight) == model.config.tie_embeddings


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@torch.no_grad()
def test_sixteen_bits_stay_near(case, dtype):
    golden, model = family_cases.results(case), load_model(FAMILY / case, dtype=dtype)
    logits = model(golden["input_ids"]).float()
    assert (logits - golden["logits"]).abs().max() < 0.15  # of 5; bfloat16 has 8 bits


def test_yarn_makes_the_context_longer():
    config = ModelConfig.from_folder(FAMILY / "glm-z1-yarn")
    assert config.yarn is not None and config.max_length == 256 == 4 * config.yarn.original_length
    raw = {**config.raw, "max_position_embeddings": 64}  # as the published files have it
    assert ModelConfig.from_dict(raw).max_length == 256


@pytest.mark.parametrize(
    ("name", "generation", "billions"),
    [("glm-4-9b-chat-hf", "glm4-hf", 9.4), ("glm-4-9b-chat-1m-hf", "glm4-hf", 9.5),
     ("glm-edge-1.5b-chat", "glm-edge", 1.47), ("glm-edge-4b-chat", "glm-edge", 4.14),
     ("THUDM/GLM-4-9B-0414", "glm4-0414", 9.4), ("glm-z1-9b-0414", "glm-z1", 9.4),
     ("zai-org/GLM-4-32B-0414", "glm4-0414", 32.6), ("GLM-Z1-32B-0414", "glm-z1", 32.6)],
)  # fmt: skip
def test_the_published_names_are_known(name, generation, billions):
    from glmcore.layout import expected

    config = find_config(name)
    assert config.generation == generation
    values = sum(spec.values for spec in expected(config).values() if not spec.optional)
    assert values / 1e9 == pytest.approx(billions, rel=0.03)


def test_all_published_names_have_a_generation_that_fits_their_files():
    assert all((config.traits.files == "hf") == (config.raw["model_type"] != "chatglm") for config in NAMED.values())


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_the_plan_knows_the_bytes(case, quantize):
    from glmcore.place.loader import plan_on_cpu, target_config

    config = target_config(ModelConfig.from_folder(FAMILY / case), quantize)
    planned = sum(share.weights_bytes for share in plan_on_cpu(config, "float32").devices)
    model = load_model(FAMILY / case, quantize=quantize, dtype="float32")
    held = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    assert sum(held.values()) == pytest.approx(planned, rel=0.03)
