"""Packing laws, and the original's bytes and floats."""


import pytest
import torch
from golden_cases import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from glmcore import packing
from glmcore.errors import GlmError
from glmcore.quant import convert, linear, schemes

CASES = [f"{version}/{case}" for version in ("v1", "v2", "v3", "glm4") for case in ("int8", "int4")] + ["v1/int4-qe"]


def tensors(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


@given(st.integers(1, 9), st.integers(1, 40), st.randoms())
@settings(max_examples=40)
def test_pack_then_unpack_is_the_identity(rows, pairs, rng):
    values = torch.tensor([[rng.randint(-8, 7) for _ in range(2 * pairs)] for _ in range(rows)], dtype=torch.int8)
    packed = packing.pack_int4(values)
    assert packed.shape == (rows, pairs)
    assert torch.equal(packing.unpack_int4(packed), values)


def test_even_column_is_in_the_high_nibble():
    packed = packing.pack_int4(torch.tensor([[3, -2]], dtype=torch.int8))
    assert packed.view(torch.uint8).item() == 0x3E


@pytest.mark.parametrize("bits", packing.BITS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_error_is_at_most_half_a_step(bits, dtype):
    weight = torch.randn(33, 70, generator=torch.Generator().manual_seed(1)).to(dtype)
    packed, scale = schemes.quantize_rows(weight, bits)
    error = (packing.dequantize(packed, scale, bits) - weight.float()).abs()
    # The quotient is rounded to the weight's own type before it is rounded to an integer: some slack.
    assert (error <= scale.float()[:, None] * (0.5 + 2**bits * torch.finfo(dtype).eps)).all()


def test_rows_of_zeros_and_tiny_rows_stay_finite():
    weight = torch.tensor([[0.0, 0.0], [6e-8, -6e-8], [1e-6, 2e-6]], dtype=torch.float16)
    for bits in packing.BITS:
        packed, scale = schemes.quantize_rows(weight, bits)
        values = packing.dequantize(packed, scale, bits)
        assert values.isfinite().all() and values[0].eq(0).all()


def test_odd_columns_and_other_widths_are_refused():
    with pytest.raises(GlmError, match="odd"):
        schemes.quantize_rows(torch.ones(2, 3), 4)
    with pytest.raises(GlmError, match="6 bits"):
        schemes.quantize_rows(torch.ones(2, 4), 6)


@pytest.mark.parametrize("case", CASES)
def test_quantising_the_base_weights_gives_the_original_bytes(case):
    base, quantised = (
        tensors(GOLDEN / case.split("/")[0] / "base/model.safetensors"),
        tensors(GOLDEN / case / "model.safetensors"),
    )
    names = [name.removesuffix("_scale") for name in quantised if name.endswith(".weight_scale")]
    assert names
    for name in names:
        weight = base[name].float() if case.startswith("v1") else base[name]
        packed, scale = schemes.quantize_rows(weight, 8 if "int8" in case else 4)
        # A bfloat16 scale rounded down makes the original's int8 overflow to -128: at times the largest weight's sign
        # flips. We keep such a weight at 127 or -127; everything else is equal.
        overflow = (quantised[name] == -128) & (packed.abs() == 127)
        assert case == "glm4/int8" or not overflow.any(), name
        assert torch.equal(packed.where(~overflow, quantised[name]), quantised[name]), name
        assert torch.equal(scale, quantised[name + "_scale"]), name


@pytest.mark.parametrize("case", [case for case in CASES if case[:2] in ("v1", "v2")])
def test_dequantised_weights_are_the_original_kernels(case):
    weights, expected = tensors(GOLDEN / case / "model.safetensors"), tensors(GOLDEN / case / "dequantized.safetensors")
    for name, value in expected.items():
        weight = name.removesuffix("dequantized") + "weight"
        got = packing.dequantize(weights[weight], weights[weight + "_scale"], 8 if "int8" in case else 4)
        torch.testing.assert_close(got, value, atol=1e-6, rtol=0)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.layers = nn.ModuleList([nn.Linear(6, 10), nn.Linear(10, 6, bias=False)])
        self.head = nn.Linear(6, 11, bias=False)


@pytest.mark.parametrize("bits", packing.BITS)
def test_quantised_model_fills_the_skeleton_and_computes(bits):
    model = convert.quantize_model(Tiny(), bits)
    assert isinstance(model.head, nn.Linear) and isinstance(model.layers[0], linear.QuantLinear)
    with torch.device("meta"):
        empty = convert.skeleton(Tiny(), bits, dtype=torch.float16)
    assert empty.layers[0].weight.is_meta
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    x = torch.randn(2, 3, 6, requires_grad=True)
    layer = model.layers[0]
    expected = x @ packing.dequantize(layer.weight, layer.weight_scale, bits).T + layer.bias
    y = layer(x)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_embedding_quantised_by_name():
    model = Tiny()
    weight = model.embedding.weight.detach().clone()
    convert.quantize_model(model, 8, ["embedding"])
    ids = torch.tensor([[3, 0], [10, 3]])
    torch.testing.assert_close(model.embedding(ids), weight[ids], atol=0.02, rtol=0)
    assert model.embedding(ids).dtype == torch.float32


def test_torch_forward_in_row_pieces_is_the_same(monkeypatch):
    layer = convert.quantize_module(nn.Linear(8, 21), 4)
    x = torch.randn(5, 8)
    whole = layer(x)
    monkeypatch.setattr(linear, "FALLBACK_ROWS", 4)
    torch.testing.assert_close(layer(x), whole)
