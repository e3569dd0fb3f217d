"""A step of fixed shapes gives what the growing cache gives; on a card also when it is recorded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from golden_cases import GOLDEN

from glmcore.engine import graph, ways
from glmcore.engine import runner as running
from glmcore.engine.graph import GraphStep, StaticStep, can_record
from glmcore.engine.runner import Runner
from glmcore.engine.ways import ModuleWay
from glmcore.engine.ways import graph as graph_way
from glmcore.models.cache import KVCache
from glmcore.models.prefix import Prefix
from glmcore.place.loader import load_model

CASES = ["v1/base", "v1/int4", "v2/base", "v2/mha-bias", "v3/rope-ratio", "glm4/base"]


def with_prefix(model, count: int):
    """A learnt prefix of ``count`` tokens, drawn at random."""
    config = model.config
    shape = (config.num_layers, config.num_kv_heads, count, config.head_dim)
    drawn = torch.Generator().manual_seed(3)
    model.prefix = Prefix(torch.randn(shape, generator=drawn), torch.randn(shape, generator=drawn))
    return model


def decoded(case: str, steps: int, device: str = "cpu", prefix: int = 0) -> torch.Tensor:
    """Logits of a few steps after a prompt, each token the best of the step before."""
    model = load_model(GOLDEN / case, dtype="float32").to(device)
    config = model.config
    if prefix:
        with_prefix(model, prefix)
    prompt = list(range(5, 17))
    if config.generation == "v1":
        prompt[-2:] = [config.gmask_token_id, config.bos_token_id]
    runner, found = Runner(model, config), []
    logits = runner.prefill(prompt)
    for _ in range(steps):
        logits = runner.decode(int(logits.argmax())).clone()
        found.append(logits.cpu())
    return torch.stack(found)


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("case", CASES)
def test_the_static_step_gives_the_same_logits(case, prefix, monkeypatch):
    growing = decoded(case, 6, prefix=prefix)
    made = []

    class Counted(StaticStep):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(ways, "can_record", lambda model: True)
    monkeypatch.setattr(graph_way, "GraphStep", Counted)
    monkeypatch.setattr(running, "CACHE_BLOCK", 14)  # it grows on the way, and the step is made anew
    monkeypatch.setattr(graph, "LEAST", 4)  # so that it attends over less than the cache holds
    static = decoded(case, 6, prefix=prefix)
    assert len(made) == 2 and not made[0].usable
    assert (static - growing).abs().max() < 2e-5 * growing.abs().max()


@pytest.mark.parametrize("case", ["v2/base", "glm4/int4", "v2/mha-bias"])
def test_every_row_of_a_batch_takes_its_own_step(case, monkeypatch):
    monkeypatch.setattr(graph, "LEAST", 4)
    model = load_model(GOLDEN / case, dtype="float32")
    rows = torch.randint(5, 90, (3, 9), generator=torch.Generator().manual_seed(2))
    plain, fixed = (KVCache(model.config, 3, 40) for _ in range(2))
    with torch.inference_mode():
        for cache in (plain, fixed):
            model(rows, cache=cache)
        step = StaticStep(model, fixed)
        for token in range(11, 16):
            ids = torch.tensor([[token], [token + 1], [token + 2]])
            expected = model(ids, cache=plain, last_only=True)[:, -1]
            got = step(ids, torch.full((3, 1), fixed.length), torch.full((3,), fixed.length))
            fixed.advance(1)
            assert (got - expected).abs().max() < 2e-5 * expected.abs().max()
    assert fixed.length == plain.length == 14


def test_a_step_reads_at_most_twice_what_is_filled(monkeypatch):
    for filled in range(1, 5000):
        assert filled <= graph.bound(filled, 8192) <= max(graph.LEAST, 2 * filled)
        assert graph.bound(filled, filled) == filled
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    monkeypatch.setattr(graph, "LEAST", 4)
    cache = KVCache(model.config, 1, 4096)  # as a long chat has left it
    seen = []

    class Watched(graph.StaticCache):
        def update(self, *arguments):
            found = super().update(*arguments)
            seen.append(found[0].shape[2])
            return found

    monkeypatch.setattr(graph, "StaticCache", Watched)
    with torch.inference_mode():
        model(torch.tensor([[5, 6, 7]]), cache=cache)
        step = StaticStep(model, cache)
        for _ in range(3):
            step(torch.tensor([[8]]), torch.tensor([[cache.length]]), torch.tensor([cache.length]))
            cache.advance(1)
    assert seen == [4] * model.config.num_layers + [8] * 2 * model.config.num_layers


def test_only_a_whole_card_is_recorded():
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    assert not can_record(model) and type(Runner(model, model.config).way) is ModuleWay
    # Without memory, but with a device: what decides is where the pieces are, not the prefix.
    on_card = SimpleNamespace(device=torch.device("cuda", 0))
    piece = SimpleNamespace(parameters=lambda: [on_card], buffers=list)
    whole = SimpleNamespace(config=model.config, get_submodule=lambda name: piece, prefix=object())
    assert can_record(whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("case", CASES)
def test_the_recorded_step_gives_the_same_logits(case, prefix):
    recorded = decoded(case, 6, "cuda", prefix)
    assert (recorded - decoded(case, 6, prefix=prefix)).abs().max() < 1e-3 * recorded.abs().max()
    assert issubclass(GraphStep, StaticStep)
