"""The models against the results of the originally published code, in float32 within the data's own tolerances."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from golden_cases import CASES, GOLDEN
from safetensors.torch import load_file
from torch import Tensor, nn

from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState, prompt_inputs
from glmcore.place import load_model

HIDDEN = 1e-4


def logit_tolerance(case: str) -> float:
    return 5e-4 if any(mark in case for mark in ("nopostln", "no-postln", "rope10000")) else 2e-4


@cache
def model_of(case: str) -> nn.Module:
    return load_model(GOLDEN / case, dtype="float32")


@cache
def data_of(case: str) -> dict[str, Tensor]:
    return load_file(GOLDEN / case / "golden.safetensors")


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def runs(case: str, prefix: str) -> bool:
    return f"{prefix}.logits" in data_of(case)


def prefill(case: str, ids: Tensor, keep: Tensor | None = None, room: int = 64):
    """Run prompts → logits, the filled cache and where the rows stand."""
    model = model_of(case)
    kv = KVCache(model.config, len(ids), ids.shape[1] + room)
    state = PositionState(model.config, ids, keep)
    return model(ids, cache=kv, **state.prompt()), kv, state


def decode(case: str, logits: Tensor, kv: KVCache, state: PositionState, steps: int, forced: Tensor | None = None):
    """Feed the best tokens (or ``forced``) one by one → tokens, logits before each, positions of each."""
    rows, tokens, places = [logits[:, -1]], [], []
    for step in range(steps):
        token = rows[-1].argmax(-1) if forced is None else forced[:, step]
        tokens.append(token)
        inputs = state.step(token[:, None])
        places.append(inputs["position_ids"])
        rows.append(model_of(case)(token[:, None], cache=kv, **inputs)[:, -1])
    return torch.stack(tokens, 1), torch.stack(rows[:-1], 1), torch.cat(places, -1)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("case", CASES)
def test_prompt_logits_and_caches(case: str) -> None:
    data = data_of(case)
    logits, kv, state = prefill(case, data["prompt.input_ids"])
    assert torch.equal(state.prompt()["position_ids"], data["prompt.position_ids"])
    close(logits, data["prompt.logits"], logit_tolerance(case))
    for layer, (keys, values) in enumerate(zip(kv.keys, kv.values, strict=True)):
        close(keys[:, :, : kv.length], data[f"prompt.layer{layer}.key"], HIDDEN)
        close(values[:, :, : kv.length], data[f"prompt.layer{layer}.value"], HIDDEN)


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_of_every_part(case: str) -> None:
    model, data, seen = model_of(case), data_of(case), {}
    parts = {"embeddings": model.embedding}
    for i, layer in enumerate(model.layers):
        attention = layer.attention if hasattr(layer, "attention") else layer.self_attention
        parts |= {f"layer{i}.input_layernorm": layer.input_layernorm, f"layer{i}.attn_out": attention}
        parts |= {f"layer{i}.mlp_out": layer.mlp, f"layer{i}.out": layer}
    if model.final_norm is not None:
        parts["final_norm"] = model.final_norm
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: seen.setdefault(name, out))
        for name, part in parts.items()
    ]
    model(data["prompt.input_ids"])
    for hook in hooks:
        hook.remove()
    for name, found in seen.items():
        wanted = data[f"prompt.{name}"]
        # ChatGLM-6B's blocks return values in the hundreds, whose last bit alone is 1e-5.
        close(found, wanted, HIDDEN * max(1.0, wanted.abs().max().item() / 10))


@pytest.mark.parametrize("case", CASES)
def test_prompt_mask_is_the_original_one(case: str) -> None:
    model, data = model_of(case), data_of(case)
    if model.config.generation == "v1":
        mask = prompt_inputs(model.config, data["prompt.input_ids"])["attention_mask"]
        assert torch.equal(~mask, data["prompt.attention_mask"])
    else:
        assert bool(data["prompt.attention_mask"].all())


@pytest.mark.parametrize("prefix", ["greedy", "forced", "mask_greedy"])
@pytest.mark.parametrize("case", CASES)
def test_decoding_token_by_token(case: str, prefix: str) -> None:
    data = data_of(case)
    if not runs(case, prefix):
        pytest.skip("not in this case")
    prompt = data["mask.input_ids" if prefix == "mask_greedy" else "prompt.input_ids"]
    wanted = data[f"{prefix}.tokens"]
    logits, kv, state = prefill(case, prompt)
    forced = wanted if prefix == "forced" else None
    tokens, found, places = decode(case, logits, kv, state, wanted.shape[1], forced)
    assert torch.equal(tokens, wanted)
    close(found, data[f"{prefix}.logits"], logit_tolerance(case))
    # The first query position belongs to the prompt's last token.
    assert torch.equal(places[..., :-1], data[f"{prefix}.query_position_ids"][..., 1:])


@pytest.mark.parametrize("case", CASES)
def test_left_padded_batch(case: str) -> None:
    data, ids = data_of(case), data_of(case)["batch.input_ids"]
    lengths = data["batch.lengths"]
    keep = torch.arange(ids.shape[1]) >= ids.shape[1] - lengths[:, None]
    logits, kv, state = prefill(case, ids, keep)
    assert torch.isfinite(logits).all()
    places = state.prompt()["position_ids"]
    for row, length in enumerate(lengths.tolist()):
        close(logits[row, -length:], data["batch.logits"][row, -length:], logit_tolerance(case))
        assert torch.equal(places[row, ..., -length:], data["batch.position_ids"][row, ..., -length:])
    wanted = data["batch_greedy.tokens"]
    tokens, found, places = decode(case, logits, kv, state, wanted.shape[1])
    assert torch.equal(tokens, wanted)
    close(found, data["batch_greedy.logits"], logit_tolerance(case))
    assert torch.equal(places[..., :-1], data["batch_greedy.query_position_ids"][..., 1:])


@pytest.mark.parametrize("prefix", ["mask", "both", "continuation", "minimal"])
@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("v1/")])
def test_kinds_of_chatglm1_prompts(case: str, prefix: str) -> None:
    data = data_of(case)
    if not runs(case, prefix):
        pytest.skip("not in this case")
    logits, _, state = prefill(case, data[f"{prefix}.input_ids"])
    assert torch.equal(state.prompt()["position_ids"], data[f"{prefix}.position_ids"])
    assert torch.equal(~state.prompt()["attention_mask"], data[f"{prefix}.attention_mask"])
    close(logits, data[f"{prefix}.logits"], logit_tolerance(case))


@pytest.mark.parametrize("given", [True, False], ids=["positions given", "positions by default"])
@pytest.mark.parametrize("case", CASES)
def test_several_tokens_on_top_of_a_cache(case: str, given: bool) -> None:
    data, model = data_of(case), model_of(case)
    if not runs(case, "append"):
        pytest.skip("not in this case")
    _, kv, state = prefill(case, data["prompt.input_ids"])
    inputs = state.step(data["append.input_ids"])
    assert torch.equal(inputs["position_ids"], data["append.position_ids"])
    logits = model(data["append.input_ids"], cache=kv, **(inputs if given else {}))
    close(logits, data["append.logits"], logit_tolerance(case))


@pytest.mark.parametrize("dtype, tolerance", [("fp16", 0.15), ("bf16", 1.0)])
@pytest.mark.parametrize("case", CASES)
def test_half_types_stay_near(case: str, dtype: str, tolerance: float) -> None:
    data = data_of(case)
    if not runs(case, f"prompt_{dtype}"):
        pytest.skip("not in this case")
    model = load_model(GOLDEN / case, dtype={"fp16": "float16", "bf16": "bfloat16"}[dtype])
    logits = model(data["prompt.input_ids"]).float()
    close(logits, data[f"prompt_{dtype}.logits"], tolerance)
