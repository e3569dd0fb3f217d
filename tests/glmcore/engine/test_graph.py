"""A step of fixed shapes gives what the growing cache gives; on a card also when it is recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from glmcore.engine import runner as running
from glmcore.engine.graph import GraphStep, StaticStep, can_record
from glmcore.engine.runner import Runner
from glmcore.place.loader import load_model

GOLDEN = Path(os.environ.get("GLM_GOLDEN", Path(__file__).resolve().parents[4] / "shared" / "golden"))
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden data at {GOLDEN}")
CASES = ["v1/base", "v1/int4", "v2/base", "v2/mha-bias", "v3/rope-ratio", "glm4/base"]


def decoded(case: str, steps: int, device: str = "cpu") -> torch.Tensor:
    """Logits of a few steps after a prompt, each token the best of the step before."""
    model = load_model(GOLDEN / case, dtype="float32").to(device)
    config = model.config
    prompt = list(range(5, 17))
    if config.generation == "v1":
        prompt[-2:] = [config.gmask_token_id, config.bos_token_id]
    runner, found = Runner(model, config), []
    logits = runner.prefill(prompt)
    for _ in range(steps):
        logits = runner.decode(int(logits.argmax())).clone()
        found.append(logits.cpu())
    return torch.stack(found)


@pytest.mark.parametrize("case", CASES)
def test_the_static_step_gives_the_same_logits(case, monkeypatch):
    growing = decoded(case, 6)
    made = []

    class Counted(StaticStep):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(running, "can_record", lambda model: True)
    monkeypatch.setattr(running, "GraphStep", Counted)
    monkeypatch.setattr(running, "CACHE_BLOCK", 14)  # it grows on the way, and the step is made anew
    static = decoded(case, 6)
    assert len(made) == 2 and not made[0].usable
    assert (static - growing).abs().max() < 2e-5 * growing.abs().max()


def test_only_a_whole_card_is_recorded():
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    assert not can_record(model) and Runner(model, model.config).step is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
@pytest.mark.parametrize("case", CASES)
def test_the_recorded_step_gives_the_same_logits(case):
    recorded = decoded(case, 6, "cuda")
    assert (recorded - decoded(case, 6)).abs().max() < 1e-3 * recorded.abs().max()
    assert issubclass(GraphStep, StaticStep)
