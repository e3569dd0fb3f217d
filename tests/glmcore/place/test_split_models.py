"""A split model gives what the whole one gives, for any placement; wishes that make no sense are said."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from golden_cases import GOLDEN, rest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import glmcore
from glmcore.config import NAMED
from glmcore.engine.runner import layer_dtypes
from glmcore.errors import GlmError
from glmcore.models.cache import KVCache
from glmcore.place.hops import attach_hops, pieces_of
from glmcore.place.loader import load_model
from glmcore.place.multi_devices import place_model, placement_from_map
from glmcore.plan import Device, Precision, make_plan, manual_placement
from glmcore.plan.planner import count_hops

DEVICES = ["cpu:0", "cpu:1", "cpu:2"]  # logical: one memory, three names


@pytest.fixture(scope="module", params=["v1", "v2", "glm4"])
def model_and_golden(request):
    folder = GOLDEN / request.param / "base"
    return load_model(folder, dtype="float32"), load_file(folder / "golden.safetensors")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.sampled_from(DEVICES), min_size=6, max_size=6))
def test_any_placement_gives_the_original_logits(model_and_golden, choices):
    model, golden = model_and_golden
    names = [name for name, _ in pieces_of(model)]
    placement = dict(zip(names, choices, strict=True))
    attach_hops(model, placement)
    cache = KVCache(model.config, 1, 64)
    ids = golden["prompt.input_ids"]
    with torch.inference_mode():
        logits = model(ids, cache=cache)
    assert (logits - golden["prompt.logits"]).abs().max() < 2e-4
    assert model.hops.count == count_hops(model.config, placement)


def test_quantised_layers_are_split_too():
    folder = GOLDEN / "v2" / "int4"
    golden = load_file(folder / "golden.safetensors")
    model = load_model(folder, dtype="float32")
    placement = {name: DEVICES[number % 3] for number, (name, _) in enumerate(pieces_of(model))}
    attach_hops(model, placement)
    with torch.inference_mode():
        logits = model(golden["prompt.input_ids"])
    assert (logits - golden["prompt.logits"]).abs().max() < 2e-4
    assert model.hops.count == len(placement) - 1


@pytest.fixture
def engine(tmp_path):
    for source in (*(rest("v2", "e2e")).iterdir(), *(rest("v2", "tokenizer")).iterdir()):
        shutil.copy(source, tmp_path / source.name)
    return glmcore.load(tmp_path, dtype="float32")


def test_config_multi_devices_as_the_original_calls_it(engine, capsys):
    question = [{"role": "user", "content": "你好"}]
    before = engine.chat(question, temperature=0, max_new_tokens=12)
    split = {"embeddings": "cpu", "layers": {"cpu:0": "1", "cpu:1": "2"}, "final_layernorm": "cpu:1"}
    assert glmcore.ConfigMultiDevices(engine, **split) is engine
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["word_embeddings -> cpu", "layer 0 -> cpu:0"]
    assert printed[-3:] == ["final_layernorm -> cpu:1", "lm_head -> cpu:1", "hooked."]
    assert engine.chat(question, temperature=0, max_new_tokens=12) == before
    assert split["layers"] == {"cpu:0": "1", "cpu:1": "2"}
    engine.backend = "of the place before"
    glmcore.ConfigMultiDevices(engine, embeddings="cpu", layers={"cpu": "1-2"}, final_layernorm="cpu")
    assert engine.backend.startswith("torch ")
    assert engine.chat(question, temperature=0, max_new_tokens=12) == before


@pytest.mark.parametrize(
    "layers, said",
    [
        ({"cpu": "1-14"}, "no device is given for layers 15, 16, 17"),
        ({"cpu:0": "1-14", "cpu:1": "14-28"}, "layer 14 is given to both cpu:0 and cpu:1"),
        ({"cpu": "0-28"}, "layers 0-28 are outside the model's 1-28"),
        ({"cpu": "1-29"}, "outside the model's 1-28"),
        ({"cpu": "28-1"}, "outside the model's 1-28"),
        ({"cpu": "1..28"}, "'1..28' is no range of layers"),
        ({"cpu": 28}, "the layers of cpu are 28"),
        ({"cpu": ("1-28",)}, r"the layers of cpu are \('1-28',\)"),
        ({"cpu": "1-16,12-28"}, "layer 12 is given to cpu twice"),
        ({"cpu": "1-14,,15-28"}, "'' is no range of layers"),
        ({}, "no device is given for layers 1, 2, 3"),
        ("1-28", "layers is '1-28'"),
        (({"cpu": "1-28"},), r"layers is \({'cpu': '1-28'},\)"),
        ({"gpu0": "1-28"}, "'gpu0' is no device"),
    ],
)
def test_wrong_splits_are_said(layers, said):
    with pytest.raises(GlmError, match=said) as caught:
        manual_placement(NAMED["chatglm-6b"], "cpu", layers, "cpu")
    assert caught.value.code in ("plan-invalid", "device-missing")


def test_the_tuple_of_the_originals_readme_is_explained():
    with pytest.raises(GlmError, match=r"embeddings is a tuple, \('cpu',\), a comma at the end"):
        manual_placement(NAMED["chatglm-6b"], ("cpu",), {"cpu": "1-28"}, "cpu")


@pytest.mark.parametrize("ends", [("cpu", ("cpu",)), ("cpu", ()), (None, "cpu"), ("cpu", "cuda:x"), ("disk", "cpu")])
def test_ends_on_what_is_no_device_are_said(ends):
    with pytest.raises(GlmError, match=r"is a tuple|is no device"):
        manual_placement(NAMED["chatglm-6b"], ends[0], {"cpu": "1-28"}, ends[1])


def test_several_ranges_of_one_device():
    placement = manual_placement(NAMED["chatglm-6b"], "cpu", {"cpu:0": "1-4, 9-28", "cpu:1": "5-8"}, "cpu:0")
    assert [placement[f"layer.{i}"] for i in (0, 3, 4, 7, 8)] == ["cpu:0", "cpu:0", "cpu:1", "cpu:1", "cpu:0"]
    assert placement["lm_head"] == placement["embedding"]  # tied


def test_device_maps_of_transformers_and_of_the_original_are_taken():
    config = replace(NAMED["chatglm2-6b"], num_layers=2)
    by_prefix = {"transformer.embedding": 0, "transformer.encoder": 1, "transformer.output_layer": "cpu"}
    assert placement_from_map(config, by_prefix) == {
        "embedding": "cuda:0", "layer.0": "cuda:1", "layer.1": "cuda:1", "final_norm": "cuda:1", "lm_head": "cpu",
    }  # fmt: skip
    original = {"transformer.word_embeddings": 0, "transformer.final_layernorm": 0, "lm_head": 0}
    original |= {f"transformer.layers.{i}": i // 14 for i in range(28)}
    assert placement_from_map(NAMED["chatglm-6b"], original)["layer.14"] == "cuda:1"
    apart = placement_from_map(NAMED["chatglm-6b"], {**original, "lm_head": 1})
    assert apart["lm_head"] == apart["embedding"] == "cuda:0"  # tied: one matrix
    with pytest.raises(GlmError, match=r"names no device for transformer\.output_layer"):
        placement_from_map(config, {"transformer.embedding": 0, "transformer.encoder": 1})


def test_placing_checks_every_device_before_anything_moves(model_and_golden):
    model, _ = model_and_golden
    placement = {name: "cpu" for name, _ in pieces_of(model)} | {"lm_head": "cuda:99"}
    with pytest.raises(GlmError, match="cuda:99 is not on this machine"):
        place_model(model, placement)


@pytest.mark.parametrize("name", ["base", "int8", "int4", "sharded"])
@pytest.mark.parametrize("generation", ["v1", "v2", "v3", "glm4"])
def test_planned_bytes_are_the_measured_ones(generation, name):
    model = load_model(GOLDEN / generation / name, dtype="float16")
    config = model.config
    precision = Precision.of(config, "float16")
    plan = make_plan(config, [Device("cpu", 2**34)], precision=precision, context=32)
    tensors = {id(t): t.nbytes for t in (*model.parameters(), *model.buffers())}
    assert sum(tensors.values()) == pytest.approx(plan.devices[0].weights_bytes, rel=0.03)
    cache = KVCache(config, 1, 32, layer_dtypes(model))
    assert cache.nbytes == plan.devices[0].kv_cache_bytes
