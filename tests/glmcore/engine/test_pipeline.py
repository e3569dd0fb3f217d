"""A prompt's chunks overlapped over a split model: the same logits, real overlap, nothing left behind."""

from __future__ import annotations

import threading

import pytest
import torch
from golden_cases import GOLDEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmcore.engine import pipeline
from glmcore.engine.pipeline import overlapped, prefill_chunks
from glmcore.engine.runner import Runner
from glmcore.engine.ways import module
from glmcore.models.cache import KVCache
from glmcore.models.prefix import Prefix
from glmcore.place.hops import attach_hops, pieces_of
from glmcore.place.loader import load_model
from glmcore.plan.overlap import overlaps, prefill_seconds

DEVICES = ["cpu:0", "cpu:1", "cpu:2"]  # logical: one memory, three names
PROMPT = torch.randint(5, 100, (1, 37), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["v2/base", "v2/int4", "v2/mha-bias", "v3/base", "glm4/base"])
def model(request):
    return load_model(GOLDEN / request.param, dtype="float32")


def placed(model, choices):
    names = [name for name, _ in pieces_of(model)]
    return attach_hops(model, dict(zip(names, (choices * len(names))[: len(names)], strict=True)))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.sampled_from(DEVICES), min_size=6, max_size=6), size=st.integers(1, 20))
def test_any_placement_gives_the_logits_of_the_whole_prompt(model, choices, size):
    model.prefix = None
    expected, cache = KVCache(model.config, 1, 64), KVCache(model.config, 1, 64)
    placed(model, choices)
    with torch.inference_mode():
        whole = model(PROMPT, cache=expected, last_only=True)
        chunked = overlapped(model, PROMPT.split(size, dim=1), cache)
    scale = whole.abs().max()
    assert (chunked - whole).abs().max() < 2e-5 * scale
    assert cache.length == expected.length
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(cache.keys, expected.keys, strict=True))


def test_a_prefix_stands_before_the_chunks_once():
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    config = model.config
    shape = (config.num_layers, config.num_kv_heads, 3, config.head_dim)
    model.prefix = Prefix(torch.randn(shape), torch.randn(shape))
    placed(model, ["cpu:0", "cpu:1"])
    expected, cache = KVCache(config, 1, 64), KVCache(config, 1, 64)
    with torch.inference_mode():
        whole = model(PROMPT, cache=expected, last_only=True)
        chunked = overlapped(model, PROMPT.split(8, dim=1), cache)
    assert (chunked - whole).abs().max() < 2e-5 * whole.abs().max()
    assert cache.prefix == 3 and cache.keys[0].shape == expected.keys[0].shape


def halves(model):
    """The first half of the pieces on one device, the rest on another, and the layer with which the second begins."""
    names = [name for name, _ in pieces_of(model)]
    attach_hops(model, {name: DEVICES[name not in ("embedding", "layer.0")] for name in names})
    return model.layers[0], model.layers[1]


def test_the_first_device_works_on_the_next_chunk_meanwhile():
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    first, second = halves(model)
    counts = {"first": 0, "second": 0}
    ahead = threading.Event()

    def began(*_):
        counts["first"] += 1
        if counts["first"] == 2:
            ahead.set()

    def waits(*_):
        counts["second"] += 1
        if counts["second"] == 1:
            assert ahead.wait(20), "the second chunk waited for the whole first one"

    first.register_forward_pre_hook(began)
    second.register_forward_hook(waits)
    overlapped(model, PROMPT.split(10, dim=1), KVCache(model.config, 1, 64))
    assert counts == {"first": 4, "second": 4}


@pytest.mark.parametrize("where, failing", [("first", 0), ("first", 2), ("second", 0), ("second", 1), ("second", 3)])
def test_an_error_in_any_chunk_is_raised_and_nothing_goes_on(where, failing):
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    layers = dict(zip(("first", "second"), halves(model), strict=True))
    seen = []

    def breaks(*_):
        seen.append(where)
        if len(seen) == failing + 1:
            raise RuntimeError(f"broken in chunk {failing}")

    handle = layers[where].register_forward_hook(breaks)
    cache = KVCache(model.config, 1, 64)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match=f"broken in chunk {failing}"):
        overlapped(model, PROMPT.split(8, dim=1), cache)
    assert threading.active_count() == before and cache.length == 0 and len(seen) == failing + 1
    handle.remove()
    overlapped(model, PROMPT.split(8, dim=1), cache)  # the same model and cache serve on
    assert cache.length == PROMPT.shape[1]


def test_it_is_used_only_where_it_pays(monkeypatch):
    model = load_model(GOLDEN / "v2" / "base", dtype="float32")
    placed(model, ["cpu:0", "cpu:1"])
    ids = PROMPT[0].tolist()
    monkeypatch.setattr(module, "PREFILL_CHUNK", 9)
    called = []

    def counted(*arguments):
        called.append(len(arguments[1]))
        return overlapped(*arguments)

    monkeypatch.setattr(pipeline, "overlapped", counted)
    plain = Runner(model, model.config).prefill(ids)
    assert not called  # the CPU under two names is one processor
    monkeypatch.setattr(pipeline, "overlaps", lambda devices: True)
    runner = Runner(model, model.config)
    assert (runner.prefill(ids) - plain).abs().max() < 1e-5 * plain.abs().max()
    assert called == [5]
    with torch.inference_mode():
        prefill_chunks(model, [PROMPT], KVCache(model.config, 1, 64))
    assert called == [5]  # one chunk has nothing to overlap with
    assert torch.isfinite(runner.decode(7)).all()


def test_processors_overlap_and_names_of_one_do_not():
    assert overlaps(["cuda:0", "cuda:0", "cpu"])
    assert not overlaps(["cpu:0", "cpu:1"]) and not overlaps(["cuda:0", "cuda:1"]) and not overlaps([])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 12))
def test_the_overlapped_time_is_that_of_taking_turns(stages, chunks):
    left = [[0] * len(stages) for _ in range(chunks)]  # when each chunk leaves each stage
    for chunk in range(chunks):
        for stage, seconds in enumerate(stages):
            free = left[chunk - 1][stage] if chunk else 0
            arrived = left[chunk][stage - 1] if stage else 0
            left[chunk][stage] = max(free, arrived) + seconds
    plain, together = prefill_seconds(stages, chunks)
    assert together == left[-1][-1] <= plain == chunks * sum(stages)
