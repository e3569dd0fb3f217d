"""Torch's own operators where no kernel can be built: right, in place, and undone for who saves or moves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from glmcore.engine.load import load
from glmcore.quant import operators
from glmcore.quant.linear import QuantLinear
from glmcore.quant.operators import operator_for, passes, use_operators
from glmcore.quant.schemes import quantize_rows


def linear(bits: int, rows: int = 192, columns: int = 320) -> QuantLinear:
    torch.manual_seed(bits)
    made = QuantLinear(columns, rows, bits, bias=True, dtype=torch.float32)
    made.weight, made.weight_scale = quantize_rows(torch.randn(rows, columns), bits)
    made.bias = torch.randn(rows)
    return made


def with_operator(module: QuantLinear) -> QuantLinear:
    module.operator = operator_for(module.bits, *module.weight.shape)
    try:
        module.weight = module.operator.arrange(module.weight)
        module(torch.zeros(1, module.in_features))
    except (AttributeError, RuntimeError) as error:
        pytest.skip(f"this torch has no such operator: {error}")
    return module


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 1, 1)])
def test_it_multiplies_within_its_tolerance(bits, shape):
    module = linear(bits)
    x = torch.randn(*shape, 320)
    wanted = module(x)
    found = with_operator(module)(x)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    assert (found - wanted).norm() <= operators.TOLERANCE * wanted.norm()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_stay_in_their_memory_and_come_back_exactly(bits):
    module = linear(bits)
    before, address = module.weight.clone(), module.weight.data_ptr()
    with_operator(module)
    assert module.weight.data_ptr() == address and module.weight.nbytes == before.nbytes
    assert torch.equal(module.state_dict()["weight"], before)
    x = torch.randn(2, 320, requires_grad=True)
    module(x).sum().backward()  # gradients go through plain torch, on the original weight
    assert x.grad.abs().sum() > 0
    module.to(torch.float32)
    assert module.operator is None and torch.equal(module.weight, before)


def test_shapes_that_the_operator_cannot_take_are_left_alone():
    assert operator_for(4, 100, 160) is None  # rows that fill no block
    assert operator_for(4, 192, 24) is None  # columns that no group divides
    assert operator_for(4, 192, 6848 // 2).group == 64


def test_a_tied_int4_embedding_keeps_its_order():
    model = nn.Module()
    model.lm_head = linear(4)
    model.embedding = nn.Module()
    model.embedding.weight = model.lm_head.weight
    before = model.lm_head.weight.clone()
    assert use_operators(model).lm_head.operator is None
    assert torch.equal(model.lm_head.weight, before)


@pytest.mark.parametrize("fault", [RuntimeError("no such operator"), AttributeError("none")])
def test_a_torch_without_it_computes_plainly(fault, monkeypatch):
    def broken(self, x, weight):
        raise fault

    monkeypatch.setattr(operators.Int8Operator, "product", broken)
    passes.cache_clear()
    assert not passes(8)
    passes.cache_clear()


def test_a_wrong_operator_is_not_used(monkeypatch):
    monkeypatch.setattr(operators.Int8Operator, "product", lambda self, x, weight: x @ weight.t().to(x) * 1.1)
    passes.cache_clear()
    assert not passes(8)
    passes.cache_clear()


@pytest.mark.parametrize("quantize", ["int4", "int8"])
def test_the_demo_model_answers_without_a_compiler(quantize, monkeypatch):
    monkeypatch.setattr("glmcore.engine.load.kernel_or_torch", lambda *_, **__: None)
    monkeypatch.setattr(operators, "passes", lambda bits: True)
    engine = load(None, quantize=quantize, precision="fast", threads=1)
    used = [m for m in engine.runner.model.modules() if isinstance(m, QuantLinear) and m.operator is not None]
    if not used:
        pytest.skip("this torch's operators take none of the model's shapes")
    assert "operator" in engine.backend
    answer = engine.chat([{"role": "user", "content": "who are you?"}], temperature=0, max_new_tokens=60)
    plain = load(None, quantize=quantize, precision="exact", threads=1)
    assert "operator" not in plain.backend
    assert answer == plain.chat([{"role": "user", "content": "who are you?"}], temperature=0, max_new_tokens=60)
