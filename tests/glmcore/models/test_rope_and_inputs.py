"""Rotary tables against the originals', and the positions and masks of prompts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from golden_cases import CASES, GOLDEN
from safetensors.torch import load_file

from glmcore.config import NAMED, ModelConfig
from glmcore.errors import GlmError
from glmcore.models import build
from glmcore.models.attention import attend
from glmcore.models.cache import KVCache
from glmcore.models.inputs import PositionState, prompt_inputs
from glmcore.models.rope import glm1_rotation, glm2_rotation

V1 = dataclasses.replace(
    NAMED["chatglm-6b"], num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=4, head_dim=8, ffn_hidden_size=64,
    vocab_size=64, bos_token_id=62, gmask_token_id=61, mask_token_id=60,
)  # fmt: skip
V2 = dataclasses.replace(
    NAMED["chatglm2-6b"], num_layers=2, hidden_size=32, num_heads=4, head_dim=8, ffn_hidden_size=40, vocab_size=64
)


@pytest.mark.parametrize("case", CASES)
def test_rotary_tables(case: str) -> None:
    data, config = load_file(GOLDEN / case / "golden.safetensors"), ModelConfig.from_folder(GOLDEN / case)
    if "rope.cache" in data:
        places = torch.arange(len(data["rope.cache"]))[None]
        found = torch.stack(glm2_rotation(config, places, torch.float32), dim=-1)[0, 0]
        torch.testing.assert_close(found, data["rope.cache"], rtol=0, atol=1e-6)
    elif "rope.cos" in data:
        places = torch.arange(len(data["rope.cos"])).expand(1, 2, -1)
        cos, sin, *_ = glm1_rotation(config, places, torch.float32)
        torch.testing.assert_close(cos[0, 0], data["rope.cos"].reshape(cos[0, 0].shape), rtol=0, atol=1e-6)
        torch.testing.assert_close(sin[0, 0], data["rope.sin"].reshape(sin[0, 0].shape), rtol=0, atol=1e-6)
    else:
        pytest.skip("no tables in this case")


def test_long_positions_keep_apart_in_bfloat16() -> None:
    cos, _ = glm2_rotation(V2, torch.tensor([[1000, 1001]]), torch.bfloat16)
    assert not torch.equal(cos[0, 0, 0], cos[0, 0, 1])


def test_chatglm2_32k_squeezes_positions_and_chatglm3_32k_enlarges_the_base() -> None:
    places = torch.tensor([[16.0]])
    squeezed = glm2_rotation(dataclasses.replace(V2, rope_ratio=16), places, torch.float32)
    assert torch.equal(squeezed[0], glm2_rotation(V2, torch.tensor([[1]]), torch.float32)[0])
    third = dataclasses.replace(V2, generation="v3", rope_ratio=16)
    # The fastest pair turns once per position, whatever the base.
    assert glm2_rotation(third, places, torch.float32)[0][0, 0, 0, 0] == torch.tensor(16.0).cos()


def test_chatglm1_counts_one_dimensional_positions_through_and_decodes_at_the_mask() -> None:
    flat = dataclasses.replace(V1, position_2d=False)
    ids = torch.tensor([[5, 6, 7, 61, 62, 8]])
    state = PositionState(flat, ids)
    assert state.prompt()["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert state.step(torch.tensor([[9]]))["position_ids"].tolist() == [[3]]
    with_mask = PositionState(flat, torch.tensor([[5, 60, 7, 62, 8]]))
    assert with_mask.prompt()["position_ids"].tolist() == [[0, 1, 2, 1, 1]]
    model = build(flat).eval()
    cache = KVCache(flat, 1, 8)
    state = PositionState(flat, ids)
    with torch.no_grad():
        model(ids, cache=cache, **state.prompt())
        assert torch.isfinite(model(torch.tensor([[9]]), cache=cache, **state.step(torch.tensor([[9]])))).all()


def test_texts_without_sop_are_read_causally_as_behind_one() -> None:
    inputs = prompt_inputs(V1, torch.tensor([[5, 6, 7]]))
    assert torch.equal(inputs["attention_mask"][0, 0], torch.ones(3, 3, dtype=torch.bool).tril())
    assert inputs["position_ids"].tolist() == [[[0, 0, 0], [1, 2, 3]]]
    flat = PositionState(dataclasses.replace(V1, position_2d=False), torch.tensor([[5, 6, 7]]))
    assert flat.prompt()["position_ids"].tolist() == [[0, 1, 2]]
    assert flat.step(torch.tensor([[8]]))["position_ids"].tolist() == [[3]]


def test_padding_on_either_side_and_between_changes_no_positions() -> None:
    row = [5, 61, 62, 8]
    alone = PositionState(V1, torch.tensor([row])).prompt()["position_ids"][0]
    keep = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1]])
    ids = torch.zeros(3, 6, dtype=torch.long).masked_scatter(keep.bool(), torch.tensor(row * 3))
    padded = PositionState(V1, ids, keep)
    for found, kept in zip(padded.prompt()["position_ids"], keep.bool(), strict=True):
        assert torch.equal(found[:, kept], alone)
    wanted = PositionState(V1, torch.tensor([row])).step(torch.tensor([[9]]))["position_ids"]
    assert torch.equal(padded.step(torch.tensor([[9]] * 3))["position_ids"], wanted.expand(3, 2, 1))
    assert V2.traits.causal and not V1.traits.causal


@pytest.mark.parametrize("heads, groups", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("queries", [1, 3, 5])
def test_attention_over_groups_is_attention_over_copies(heads: int, groups: int, queries: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, heads, queries, 8)
    key, value = torch.randn(2, 2, groups, 5, 8)
    mask = torch.ones(queries, 5, dtype=torch.bool).tril(5 - queries)
    copies = heads // groups
    scores = query @ key.repeat_interleave(copies, 1).transpose(-1, -2) / 8**0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    wanted = (weights @ value.repeat_interleave(copies, 1)).transpose(1, 2).flatten(2)
    found = attend(query, key, value, None if queries in (1, 5) else mask)
    torch.testing.assert_close(found, wanted)


def test_the_cache_grows_without_losing_and_refuses_what_does_not_fit() -> None:
    model = build(V2).eval()
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    cache = KVCache(V2, 1, 3)
    with torch.no_grad():
        whole = model(ids)
        model(ids[:, :3], cache=cache)
        before = cache.keys[0].data_ptr()
        with pytest.raises(GlmError, match="4 tokens do not fit into a cache of 3"):
            model(ids[:, 3:4], cache=cache)
        cache.reserve(8)
        assert cache.capacity == 8 and cache.keys[0].data_ptr() != before
        place = cache.keys[0].data_ptr()
        rest = [model(ids[:, i : i + 1], cache=cache) for i in (3, 4)]
        assert cache.keys[0].data_ptr() == place
        torch.testing.assert_close(torch.cat(rest, 1), whole[:, 3:])
        cache.length = 3
        torch.testing.assert_close(model(ids[:, 3:], cache=cache, last_only=True), whole[:, -1:])


def test_models_are_built_without_memory() -> None:
    with torch.device("meta"):
        model = build(NAMED["glm-4-9b-chat"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 9_399_951_360
    assert all(parameter.is_meta for parameter in model.parameters())
