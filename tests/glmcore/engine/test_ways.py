"""Rows of several lengths get the logits that each of them gets alone, whichever way the model runs."""

from dataclasses import replace

import pytest
import torch

from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED
from glmcore.engine import graph
from glmcore.engine.native import NativeModel
from glmcore.engine.ways import GraphWay, ModuleWay, NativeWay, Rows
from glmcore.engine.ways import graph as graph_way
from glmcore.kernels.load import PRECISIONS, load_kernel
from glmcore.models.cache import KVCache
from glmcore.models.prefix import Prefix

NAMES = ["chatglm-6b", "chatglm2-6b", "chatglm3-6b-128k", "glm-4-9b"]
LENGTHS = (5, 40, 260)
CAPACITY = 262  # the cache grows on the way


def model_of(name, bits=4, **kernel):
    config = replace(
        NAMED[name], num_layers=2, hidden_size=128, num_heads=4, head_dim=32, vocab_size=400, ffn_hidden_size=300,
        num_kv_heads=4 if name == "chatglm-6b" else 2, quantization_bit=bits, gmask_token_id=390, bos_token_id=391,
        mask_token_id=389,
    )  # fmt: skip
    return random_model(config, torch.float32, kernel=load_kernel(threads=2, **kernel) if kernel else None)


def rows_for(model, count):
    return Rows(model.config, KVCache(model.config, count, CAPACITY))


def native_way(model, count):
    return NativeWay(NativeModel(model, model.config), rows_for(model, count))


def module_way(model, count):
    return ModuleWay(model, rows_for(model, count))


def graph_way_on_cpu(model, count):
    return GraphWay(model, rows_for(model, count))


def answers(way, prompts, order=None):
    """Each row's logits after its prompt and after a few tokens of its own; the rows come and pause as they like."""
    rows = order or [0]
    after = way.prefill({row: prompts[row] for row in rows})
    found = {row: [logits.clone()] for row, logits in zip(rows, after, strict=True)}
    for turn in range(5):
        taking = {row: token_of(prompts[row], len(found[row])) for row in rows if not order or (turn + row) % 3}
        for row, logits in zip(taking, way.decode(taking), strict=True):
            found[row].append(logits.clone())
    return [torch.stack(found[row]) for row in sorted(rows)]


def token_of(prompt, turn):
    return (len(prompt) * 7 + turn * 31) % 380 + 5


def alone_and_together(make, model):
    prompts = [prompt_ids(model.config, length, seed=length) for length in LENGTHS]
    together = answers(make(model, len(prompts)), prompts, order=[2, 0, 1])
    return [(mine, answers(make(model, 1), [prompt])[0][: len(mine)]) for mine, prompt in
            zip(together, prompts, strict=True)]  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_the_native_step_have_the_bits_of_each_alone(name, precision):
    for together, alone in alone_and_together(native_way, model_of(name, precision=precision)):
        assert torch.equal(together, alone)


@pytest.mark.parametrize("name", NAMES)
def test_rows_through_the_modules_have_the_bits_of_each_alone(name):
    for together, alone in alone_and_together(module_way, model_of(name)):
        assert torch.equal(together, alone)


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_static_step_have_the_logits_of_each_alone(name, prefix, monkeypatch):
    """The step that a card records, computed here without recording."""
    monkeypatch.setattr(graph_way, "GraphStep", graph.StaticStep)
    monkeypatch.setattr(graph, "LEAST", 4)
    model = model_of(name, bits=0)
    if prefix:
        shape = (2, model.config.num_kv_heads, prefix, model.config.head_dim)
        model.prefix = Prefix(torch.randn(shape), torch.randn(shape))
    for together, alone in alone_and_together(graph_way_on_cpu, model):
        torch.testing.assert_close(together, alone, atol=2e-4, rtol=2e-4)
    through_modules = alone_and_together(module_way, model)
    torch.testing.assert_close(together, through_modules[-1][0], atol=2e-4, rtol=2e-4)


def test_a_row_that_is_used_again_keeps_what_it_can_and_leaves_the_others_alone():
    model = model_of("chatglm3-6b-128k", precision="fast")
    way = native_way(model, 2)
    first, second = prompt_ids(model.config, 40), prompt_ids(model.config, 60, seed=3)
    way.prefill({0: first, 1: second})
    longer = [*first[:30], *range(50, 90)]
    assert way.reusable(0, longer) == 30
    again = way.prefill({0: longer})
    assert way.rows.held == [longer, second] and way.rows.cache.length == len(longer)
    torch.testing.assert_close(again, module_way(model, 1).prefill({0: longer}), atol=0.05, rtol=0.05)
    assert torch.equal(way.decode({1: 9})[0], answers_after(model, second, 9))


def answers_after(model, prompt, token):
    way = native_way(model, 1)
    way.prefill({0: prompt})
    return way.decode({0: token})[0]
