"""Generation counted: how many tokens every forward pass is given. A lost cache fails here rather than slows."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.huggingface import ChatGLMConfig

GENERATIONS = ["v1", "v2", "v3", "glm4"]
NEW = 6


@contextlib.contextmanager
def counted(model):
    """The lengths of what each forward pass of ``model`` computes."""
    counts: list[int] = []
    handle = model.native.layers[0].register_forward_pre_hook(lambda _, given: counts.append(given[0].shape[1]))
    try:
        yield counts
    finally:
        handle.remove()


def arguments(data, **more):
    return {"inputs": data["prompt.input_ids"], "do_sample": False, "max_new_tokens": NEW, "eos_token_id": None} | more


@pytest.mark.parametrize("how", [{}, {"cache_implementation": "static"}, {"num_beams": 2}], ids=str)
@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_token_is_computed_once(load, generation: str, how: dict) -> None:
    model, data = load(f"{generation}/base")
    size = data["prompt.input_ids"].shape[1]
    with counted(model) as counts:
        out = model.generate(**arguments(data, **how))
    assert counts == [size] + [1] * (NEW - 1)
    assert "num_beams" in how or torch.equal(out[:, size:], data["greedy.tokens"][:, :NEW])


@pytest.mark.parametrize("how", ["assistant_model", "prompt_lookup_num_tokens"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_drafted_tokens_are_computed_once(load, generation: str, how: str) -> None:
    model, data = load(f"{generation}/base")
    size = data["prompt.input_ids"].shape[1]
    assistant = load(f"{generation}/base")[0]
    with counted(model) as counts, counted(assistant) as drafted:
        # transformers 4.44 looks prompts up only where there is an end token.
        unused = next(i for i in range(10, 90) if i not in data["greedy.tokens"])
        how_much = {how: assistant if how == "assistant_model" else 3, "eos_token_id": unused}
        out = model.generate(**arguments(data, **how_much))
    assert torch.equal(out[:, size:], data["greedy.tokens"][:, :NEW])
    # A pass computes the drafted tokens and the one before them; none goes through the prompt again.
    assert size <= counts[0] < size + NEW and all(1 <= count <= NEW for count in counts[1:])
    if how == "assistant_model":
        assert len(counts) < NEW and drafted[0] == size and all(count < size for count in drafted[1:])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_without_a_cache_everything_is_computed_again(load, generation: str) -> None:
    """The counting itself: it sees the loss that it is here for."""
    model, data = load(f"{generation}/base")
    size = data["prompt.input_ids"].shape[1]
    with counted(model) as counts:
        out = model.generate(**arguments(data, use_cache=False))
    assert counts == list(range(size, size + NEW))
    assert torch.equal(out[:, size:], data["greedy.tokens"][:, :NEW])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_cache_of_ones_own_goes_on(load, generation: str) -> None:
    """The loop that users write: logits from the cache, position by position."""
    model, data = load(f"{generation}/base")
    cache, ids, found = DynamicCache(), data["prompt.input_ids"], []
    with counted(model) as counts, torch.no_grad():
        for _ in range(NEW):
            out = model(ids, past_key_values=cache)
            cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
            found.append(ids)
    assert torch.equal(torch.cat(found, 1), data["greedy.tokens"][:, :NEW])
    assert counts == [data["prompt.input_ids"].shape[1]] + [1] * (NEW - 1)


@pytest.mark.parametrize("generation", ["v2", "v3", "glm4"])
def test_prompts_in_chunks(load, generation: str) -> None:
    model, data = load(f"{generation}/base")
    size = data["prompt.input_ids"].shape[1]
    if not hasattr(model.generation_config, "prefill_chunk_size"):
        pytest.skip("this transformers knows no chunks")
    with counted(model) as counts:
        out = model.generate(**arguments(data, prefill_chunk_size=3))
    assert torch.equal(out[:, size:], data["greedy.tokens"][:, :NEW])
    assert max(counts) == 3 and sum(counts) == size + NEW - 1


def test_a_prompt_of_chatglm1_is_not_cut_into_chunks(load) -> None:
    model, data = load("v1/base")
    with pytest.raises(GlmError, match="in one piece"):
        model.generate(**arguments(data, prefill_chunk_size=3))


@pytest.mark.parametrize("how", [{}, {"use_cache": False}, {"assistant_model": True}, {"num_beams": 1}], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_one_dimensional_positions_follow_our_own_engine(how: dict, seed: int) -> None:
    """ChatGLM-6B with ``position_encoding_2d`` false counts its prompt through and answers at the mask's position."""
    torch.manual_seed(seed)
    config = ChatGLMConfig(
        position_encoding_2d=False, vocab_size=96, hidden_size=32, num_layers=2, num_attention_heads=4,
        inner_hidden_size=64, max_sequence_length=64, bos_token_id=84, eos_token_id=85, mask_token_id=80,
        gmask_token_id=81, pad_token_id=3,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    prompt = torch.tensor([[5, 6, 7, 9, 11, 81, 84]])
    runner = Runner(model.native, dataclasses.replace(config.native))
    token = int(runner.prefill(prompt[0].tolist()).argmax())
    wanted = [token]
    while len(wanted) < 8:
        token = int(runner.decode(token).argmax())
        wanted.append(token)
    if how.get("assistant_model"):
        how = {"assistant_model": model}
    out = model.generate(prompt, do_sample=False, max_new_tokens=8, eos_token_id=None, **how)
    assert out[0, prompt.shape[1] :].tolist() == wanted


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_chosen_logits_are_those_of_all(load, generation: str) -> None:
    model, data = load(f"{generation}/base")
    ids = data["prompt.input_ids"]
    everything = model(ids).logits
    wanted = torch.tensor([2, 0])
    assert torch.equal(model(ids, logits_to_keep=wanted).logits, everything[:, wanted])
    for count in (1, 3):
        torch.testing.assert_close(model(ids, logits_to_keep=count).logits, everything[:, -count:])


def test_attention_weights_that_are_not_kept_are_refused(load) -> None:
    model, data = load("v2/base")
    ids = data["prompt.input_ids"]
    for call in (model, model.generate):
        with pytest.raises(GlmError, match="without keeping its weights"):
            call(ids, output_attentions=True)
