"""The type to compute in, as names and as torch's own."""

from __future__ import annotations

import pytest
import torch

import glmcore
from glmcore.engine.runner import layer_dtypes
from glmcore.errors import GlmError


@pytest.mark.parametrize("dtype", [torch.float32, "float32", "torch.float32", torch.bfloat16, "float16"])
def test_types_and_their_names_load(dtype) -> None:
    """Whatever is kept, the CPU computes in float32."""
    model = glmcore.load(dtype=dtype).runner.model
    assert set(layer_dtypes(model)) == {torch.float32}
    assert model.layers[0].mlp.dense_4h_to_h.weight.dtype == getattr(torch, str(dtype).removeprefix("torch."))


@pytest.mark.parametrize("dtype", [torch.int8, "float8", "int8", 32, "nn"])
def test_a_wrong_type_is_said_before_anything_is_read(dtype) -> None:
    with pytest.raises(GlmError, match=r"no type to compute in.*float16, bfloat16, float32") as raised:
        glmcore.load("/nonexistent", dtype=dtype)
    assert raised.value.code == "usage"
