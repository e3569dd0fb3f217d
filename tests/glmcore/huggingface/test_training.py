"""What training and scoring ask of the classes: embeddings, hidden states, checkpointing, PEFT, the harness's sums."""

from __future__ import annotations

import pytest
import torch

from glmcore.errors import GlmError

GENERATIONS = ["v1", "v2", "v3", "glm4"]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_embeddings_stand_for_their_tokens(load, generation: str) -> None:
    model, data = load(f"{generation}/base")
    ids = data["prompt.input_ids"]
    embeddings = model.get_input_embeddings()(ids)
    with torch.no_grad():
        out = model(inputs_embeds=embeddings)
    torch.testing.assert_close(out.logits, data["prompt.logits"], rtol=0, atol=5e-4)
    settings = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None}
    wanted = data["greedy.tokens"][:, :6]
    assert torch.equal(model.generate(inputs_embeds=embeddings, **settings)[:, -6:], wanted)
    assert torch.equal(model.generate(ids, inputs_embeds=embeddings, **settings)[:, -6:], wanted)
    with pytest.raises(GlmError, match="either input_ids or inputs_embeds"):
        model(input_ids=ids, inputs_embeds=embeddings)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_hidden_states_are_the_originals(load, generation: str) -> None:
    model, data = load(f"{generation}/base")
    with torch.no_grad():
        states = model(data["prompt.input_ids"], output_hidden_states=True).hidden_states
    layers = model.config.num_hidden_layers
    assert len(states) == layers + 1
    wanted = [data["prompt.embeddings"], *(data[f"prompt.layer{i}.out"] for i in range(layers))]
    if generation == "v1":
        wanted[-1] = data["prompt.final_norm"]
    for found, expected in zip(states, wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    out = model.generate(data["prompt.input_ids"], max_new_tokens=2, do_sample=False, eos_token_id=None,
                         output_hidden_states=True, return_dict_in_generate=True)  # fmt: skip
    assert len(out.hidden_states) == 2 and out.hidden_states[1][0].shape[1] == 1


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_gradient_checkpointing_computes_layers_again_and_gives_the_same(
    load, generation: str, reentrant: bool
) -> None:
    model, data = load(f"{generation}/base")
    ids = data["prompt.input_ids"]
    model.train()(ids, labels=ids).loss.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    calls = []
    handle = model.native.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    model(ids, labels=ids).loss.backward()
    handle.remove()
    assert len(calls) == 2
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-5)


def test_losses_of_a_step_in_parts_are_those_of_the_whole(load) -> None:
    """Trainer gives the number of tokens of all parts; each part's mean would weigh short parts too much."""
    model, data = load("v2/base")
    ids = data["prompt.input_ids"]
    labels = ids.clone()
    labels[:, : ids.shape[1] // 2] = -100
    count = int((labels[:, 1:] != -100).sum())
    with torch.no_grad():
        mean = model(ids, labels=labels).loss
        torch.testing.assert_close(model(ids, labels=labels, num_items_in_batch=2 * count).loss, mean / 2)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_learnt_prompts_and_prefixes_train_and_generate_what_they_trained(load, generation: str, kind: str) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model, data = load(f"{generation}/base")
    if not hasattr(model.config, "get_text_config"):
        pytest.skip("this PEFT wants a newer transformers for learnt prompts")
    adapted = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3))
    ids = data["prompt.input_ids"]
    ones = torch.ones_like(ids)
    before = adapted(input_ids=ids, attention_mask=ones, labels=ids).loss
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(input_ids=ids, attention_mask=ones, labels=ids).loss.backward()
        optimizer.step()
    adapted.eval()
    with torch.no_grad():
        assert adapted(input_ids=ids, attention_mask=ones, labels=ids).loss < before
        first = adapted(input_ids=ids, attention_mask=ones).logits[:, -1].argmax(-1)
        settings = {"do_sample": False, "max_new_tokens": 4, "eos_token_id": None, "pad_token_id": 0}
        out = adapted.generate(input_ids=ids, attention_mask=ones, **settings)
        assert out[0, ids.shape[1]] == first
        # A row that is padded on the left gives the same answer.
        padded = torch.cat((torch.full((1, 2), 3), ids), 1)
        mask = torch.cat((torch.zeros(1, 2, dtype=torch.long), ones), 1)
        assert torch.equal(adapted.generate(input_ids=padded, attention_mask=mask, **settings)[:, -4:], out[:, -4:])


def harness_sums(model, requests: list[tuple[list[int], list[int]]], batch: int) -> list[float]:
    """lm-evaluation-harness's arithmetic (HFLM._loglikelihood_tokens): batches padded on the right with zeros."""
    sums = []
    for first in range(0, len(requests), batch):
        part = requests[first : first + batch]
        rows = [torch.tensor((context + continuation)[:-1]) for context, continuation in part]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        with torch.no_grad():
            scores = model(ids).logits.log_softmax(-1)
        for index, (row, (_, continuation)) in enumerate(zip(rows, part, strict=True)):
            wanted = torch.tensor(continuation)
            of_row = scores[index, len(row) - len(wanted) : len(row)]
            sums.append(of_row.gather(-1, wanted[:, None]).sum().item())
    return sums


@pytest.mark.parametrize("generation", GENERATIONS)
def test_likelihoods_do_not_depend_on_the_batch(load, generation: str) -> None:
    model, _ = load(f"{generation}/base")
    requests = [([20, 21, 22, 23], [30, 31]), ([40, 41], [50]), ([20, 21, 22, 23, 24, 25, 26], [60, 61, 62, 63])]
    alone, together = harness_sums(model, requests, 1), harness_sums(model, requests, 3)
    assert together == pytest.approx(alone, abs=2e-4)
    # Nor on what follows: a score that saw the next token would not be one.
    longer = harness_sums(model, [([20, 21, 22, 23], [30, 31, 99])], 1)[0]
    more = harness_sums(model, [([20, 21, 22, 23, 30, 31], [99])], 1)[0]
    assert longer == pytest.approx(alone[0] + more, abs=2e-4)
