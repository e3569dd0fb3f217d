"""Every row of traits.py: what the layout counts is what the modules have, and the CPU's step computes what they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from glmcore.bench.workloads import prompt_ids, random_model
from glmcore.config import NAMED, ModelConfig
from glmcore.engine.runner import Runner
from glmcore.engine.ways import NativeWay
from glmcore.kernels.load import load_kernel
from glmcore.layout import expected
from glmcore.models import build
from glmcore.traits import TRAITS


def small(generation: str) -> ModelConfig:
    """Two narrow layers with the switches of a published model that the same modules compute."""
    base = NAMED["chatglm-6b" if TRAITS[generation].modules == "glm1" else "glm-4-9b-chat"]
    return replace(
        base, generation=generation, num_layers=2, hidden_size=64, num_heads=4, head_dim=16, ffn_hidden_size=96,
        vocab_size=400, num_kv_heads=2 if base.multi_query else 4, gmask_token_id=390, bos_token_id=391,
        mask_token_id=389,
    )  # fmt: skip


@pytest.mark.parametrize("generation", TRAITS)
def test_the_layout_counts_what_the_modules_have(generation: str) -> None:
    for bits in (0, 4):
        config = small(generation).quantised(bits)
        with torch.device("meta"):
            held = {name: tuple(tensor.shape) for name, tensor in build(config).state_dict().items()}
        assert held == {name: spec.shape for name, spec in expected(config).items()}


@pytest.mark.parametrize("generation", TRAITS)
def test_the_cpus_step_computes_what_the_modules_do(generation: str) -> None:
    config = small(generation).quantised(4)
    model = random_model(config, "float32", kernel=load_kernel(threads=1, precision="exact"))
    runner, prompt = Runner(model, config), prompt_ids(config, 7)
    assert isinstance(runner.way, NativeWay)
    with torch.inference_mode():
        wanted = model(torch.tensor([prompt]))[0, -1]
    found = runner.prefill(prompt)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
