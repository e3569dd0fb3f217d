"""Plans carried out: the types on each device, memory that is short or gets lost, and other forms of a plan."""

from __future__ import annotations

import gc
import json
import shutil
import weakref

import pytest
import torch
from golden_cases import GOLDEN, rest
from safetensors.torch import load_file

import glmcore
from glmcore.checkpoint import open_checkpoint
from glmcore.engine import placing
from glmcore.engine.placing import load_planned, plan_for, plan_from_map, plan_on_gpus, read_plan
from glmcore.engine.runner import Runner
from glmcore.errors import GlmError
from glmcore.layout import piece_names
from glmcore.models.cache import KVCache
from glmcore.place import loader
from glmcore.place.hops import pieces_of
from glmcore.place.loader import load_model
from glmcore.place.multi_devices import place_model
from glmcore.plan import Device, Precision, Types, make_plan
from glmcore.quant.halves import HalfEmbedding, HalfLinear

LARGE = 2**34


def opened(case: str):
    return open_checkpoint(GOLDEN / case)


def plan_of(config, devices=("cpu:0", "cpu:1"), *, strategy: str = "equal", budget: int = LARGE, **changes):
    precision = Precision.of(config, config.dtype)
    places = [Device(name, budget) for name in devices]
    return make_plan(config, places, strategy=strategy, precision=precision, context=64, **changes)


@pytest.mark.parametrize("case", ["v1/base", "v2/base", "v2/mha-bias", "v2/int4", "v1/int4-qe", "glm4/int8"])
def test_the_cpus_part_of_a_16_bit_plan_computes_in_float32(case):
    with opened(case) as checkpoint:
        plan = plan_of(checkpoint.config)
        model = load_model(checkpoint, plan=plan)
    golden = load_file(GOLDEN / case / "golden.safetensors")
    ids = golden["prompt.input_ids"]
    with torch.inference_mode():
        logits = model(ids, cache=Runner(model, model.config).cache)
    assert logits.dtype == torch.float32
    assert (logits - golden["prompt.logits"]).abs().max() < 2e-4
    assert model.hops.count == plan.hops


def test_weights_of_a_16_bit_plan_keep_16_bits_on_the_cpu():
    with opened("v2/mha-bias") as checkpoint:
        model = load_model(checkpoint, plan=plan_of(checkpoint.config))
    assert isinstance(model.embedding, HalfEmbedding)
    linear = model.layers[0].self_attention.query_key_value
    assert isinstance(linear, HalfLinear) and linear.weight.dtype == torch.float16
    assert linear.bias.dtype == model.layers[0].input_layernorm.weight.dtype == torch.float32
    assert Runner(model, model.config).cache.keys[0].dtype == torch.float32


def test_a_half_model_placed_by_hand_computes_on_the_cpu_in_float32():
    model = load_model(GOLDEN / "v2" / "base", dtype="float16")
    golden = load_file(GOLDEN / "v2" / "base" / "golden.safetensors")
    for _ in range(2):  # placing again changes nothing
        place_model(model, {name: f"cpu:{n % 2}" for n, (name, _) in enumerate(pieces_of(model))})
        with torch.inference_mode():
            logits = model(golden["prompt.input_ids"])
        assert (logits - golden["prompt.logits"]).abs().max() < 2e-4


def test_a_plan_says_the_types_of_each_piece():
    with opened("v2/base") as checkpoint:
        config = checkpoint.config
    halves = {name: "cpu" if name == "lm_head" else "cuda:0" for name in piece_names(config)}
    mixed = plan_of(config, ("cuda:0", "cpu"), strategy="manual", placement=halves).types
    assert mixed["embedding"] == Types("float16", "float16", "float16")
    assert mixed["lm_head"] == Types("float16", "float32", "float32")
    packed = make_plan(config, [Device("cpu", LARGE)], precision=Precision.of(config, "float32", 4), context=64)
    assert set(packed.types.values()) == {Types("float16", "float32", "float32")}
    whole = make_plan(config, [Device("cpu", LARGE)], precision=Precision("float32"), context=64)
    assert set(whole.types.values()) == {Types("float32", "float32", "float32")}


@pytest.mark.parametrize("case", ["v2/base", "v2/int4", "glm4/int8", "v1/base"])
def test_a_plan_that_names_the_cpu_alone_is_no_plan(case):
    with opened(case) as checkpoint:
        plan = plan_of(checkpoint.config, ("cpu",))
        planned, bare = load_model(checkpoint, plan=plan), load_model(checkpoint)
    kinds = [[type(module) for module in model.modules()] for model in (planned, bare)]
    hooks = [module for module in planned.modules() if module._forward_pre_hooks]
    assert not hooks and planned.hops.stages == 1
    if plan.quantize:  # else the plan keeps 16 bits, where enough memory is free for 32
        assert kinds[0] == kinds[1]


def test_a_type_that_the_plan_is_not_for_is_refused():
    with opened("v2/base") as checkpoint:
        plan = plan_of(checkpoint.config)
        with pytest.raises(GlmError, match="the plan is for float16, not float32"):
            plan_for(plan, checkpoint.config, torch.float32)
        with pytest.raises(GlmError, match="the plan is not for int4 weights"):
            plan_for(plan, checkpoint.config.quantised(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
@pytest.mark.parametrize("case", ["v1/base", "v2/int4", "glm4/int8"])
def test_a_card_and_the_cpu_together_give_the_golden_logits(case):
    golden = load_file(GOLDEN / case / "golden.safetensors")
    with opened(case) as checkpoint:
        model = load_model(checkpoint, plan=plan_of(checkpoint.config, ("cuda:0", "cpu")))
    with torch.inference_mode():
        logits = model(golden["prompt.input_ids"].to("cuda:0")).float().cpu()
    assert (logits - golden["prompt.logits"]).abs().max() < 0.02 * golden["prompt.logits"].abs().max()


class Memory:
    """Free bytes by device, which change while they are asked."""

    def __init__(self, **later: int) -> None:
        self.later = later

    def __call__(self, name: str) -> int | None:
        return self.later.get(name.replace(":", ""), LARGE)


def test_a_device_that_lost_memory_is_planned_around(caplog):
    with opened("v2/base") as checkpoint:
        config = checkpoint.config
        plan = plan_of(config, ("cpu",), strategy="greedy")
        used = plan.devices[0].total_bytes
        two = make_plan(
            config, [Device("cuda:0", LARGE), Device("cpu", LARGE)],
            precision=Precision(config.dtype), context=64,
        )  # fmt: skip
        assert two.devices[1].pieces == ()  # the card was to hold all
        model = load_planned(checkpoint, two, config, free=Memory(cuda0=1000))
    assert set(model.placement.values()) == {"cpu"} and used < LARGE
    assert "planned anew" in caplog.text and "cuda:0 has 1000 B free" in caplog.text


def test_a_second_shortage_is_an_error():
    with opened("v2/base") as checkpoint:
        config = checkpoint.config
        with pytest.raises(GlmError, match="a new plan does not fit either") as caught:
            load_planned(checkpoint, plan_of(config), config, free=Memory(cpu=1000, cpu0=1000, cpu1=1000))
        assert caught.value.code == "memory-short" and "would fit" in caught.value.hint


def test_a_placement_by_hand_is_not_planned_anew():
    with opened("v2/base") as checkpoint:
        config = checkpoint.config
        plan = plan_of(config, ("cpu",), strategy="manual", placement=dict.fromkeys(plan_of(config).placement, "cpu"))
        with pytest.raises(GlmError, match="cpu has 1000 B free, the plan asks for") as caught:
            load_planned(checkpoint, plan, config, free=Memory(cpu=1000))
        assert "by hand" in caught.value.hint


class Unplaceable:
    """A tensor for which its device's allocator has no memory."""

    dtype = torch.float32

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def numel(self) -> int:
        return 1000

    def to(self, *_: object) -> None:
        raise self.failure


@pytest.mark.parametrize(
    "failure",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_names_the_piece_and_frees_everything(monkeypatch, failure):
    made, read = [], []
    assign, stored = loader.assign, loader.stored

    def remember(model, name, tensor):
        made.append(weakref.ref(tensor.untyped_storage()))
        assign(model, name, tensor)

    def stored_until_the_seventh(checkpoint, config, name):
        read.append(name)
        return {name: Unplaceable(failure)} if len(read) > 6 else stored(checkpoint, config, name)

    monkeypatch.setattr(loader, "stored", stored_until_the_seventh)
    monkeypatch.setattr(loader, "assign", remember)
    monkeypatch.setattr(loader, "READERS", 1)
    with pytest.raises(GlmError, match=r"cpu has no memory left for 3\.9 KiB") as caught:
        load_model(GOLDEN / "v2" / "base", dtype="float32")
    assert caught.value.code == "memory-short" and ".weight" in caught.value.where
    gc.collect()
    assert made and not [ref for ref in made if ref() is not None]  # although ``caught`` still holds the frames


def test_other_runtime_errors_are_left_alone(monkeypatch):
    def wrong(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(loader, "put", wrong)
    with pytest.raises(RuntimeError, match="something else"):
        load_model(GOLDEN / "v2" / "base", dtype="float32")


def test_running_out_while_placing_is_planned_anew_once(monkeypatch):
    real, plans = placing.load_model, []

    def fails_first(checkpoint, *, plan, **settings):
        plans.append(plan)
        if len(plans) == 1:
            raise GlmError("memory-short", "cpu has no memory left for 2 MiB", where="lm_head")
        return real(checkpoint, plan=plan, **settings)

    monkeypatch.setattr(placing, "load_model", fails_first)
    with opened("v2/base") as checkpoint:
        plan = plan_of(checkpoint.config)
        assert load_planned(checkpoint, plan, checkpoint.config).placement == plan.placement
        assert len(plans) == 2 and "no memory left" in plans[1].reasons[-1]


def test_running_out_twice_is_an_error(monkeypatch):
    plans = []

    def fails(checkpoint, *, plan, **settings):
        plans.append(plan)
        raise GlmError("memory-short", "cpu has no memory left for 2 MiB", where="lm_head")

    monkeypatch.setattr(placing, "load_model", fails)
    with opened("v2/base") as checkpoint, pytest.raises(GlmError, match="no memory left for 2 MiB") as caught:
        load_planned(checkpoint, plan_of(checkpoint.config), checkpoint.config)
    assert len(plans) == 2 and caught.value.where == "lm_head"


def test_device_maps_are_plans():
    with opened("v2/base") as checkpoint:
        config = checkpoint.config
        plan = plan_from_map({"transformer.embedding": "cpu:0", "": "cpu:1"}, config, free=Memory())
        assert plan.strategy == "manual" and plan.placement["embedding"] == "cpu:0" and plan.hops == 1
        assert load_model(checkpoint, plan=plan).placement == plan.placement
        assert plan_for({"": "cpu"}, config).fits
        assert set(plan_for("balanced", config).placement.values()) <= {"cpu", "cuda:0", "cuda:1"}
        with pytest.raises(GlmError, match="cuda:7 is not on this machine"):
            plan_from_map({"": 7}, config, free=lambda name: None)
        with pytest.raises(GlmError, match="does not fit"):
            plan_from_map({"": "cpu"}, config, free=lambda name: 1000)


def test_load_model_on_gpus_takes_what_the_original_takes(tmp_path):
    for source in (*(rest("v2", "e2e")).iterdir(), *(rest("v2", "tokenizer")).iterdir()):
        shutil.copy(source, tmp_path / source.name)
    question = [{"role": "user", "content": "你好"}]
    engine = glmcore.load_model_on_gpus(tmp_path, device_map={"": "cpu:1"}, dtype="float32")
    before = engine.chat(question, temperature=0, max_new_tokens=8)
    split = {"transformer.embedding": "cpu:0", "transformer": "cpu:1"}
    assert glmcore.load_model_on_gpus(engine, device_map=split) is engine
    assert engine.runner.model.placement["embedding"] == "cpu:0"
    assert engine.chat(question, temperature=0, max_new_tokens=8) == before
    with opened("v2/base") as checkpoint:
        plan = plan_on_gpus(checkpoint.config, 2, free=lambda name: LARGE)
        assert {share.name for share in plan.devices if share.pieces} == {"cuda:0", "cuda:1"}
        with pytest.raises(GlmError, match="cuda:1 is not on this machine"):
            plan_on_gpus(checkpoint.config, 2, free=lambda name: LARGE if name == "cuda:0" else None)
        with pytest.raises(GlmError, match="0 cards hold nothing"):
            plan_on_gpus(checkpoint.config, 0)


def test_a_plan_for_a_card_that_is_not_here_is_said():
    if torch.cuda.is_available():
        pytest.skip("here is a card")
    with opened("v2/base") as checkpoint:
        plan = plan_of(checkpoint.config, ("cuda:0",))
        with pytest.raises(GlmError, match="cuda:0 is not on this machine") as caught:
            load_model(checkpoint, plan=plan)
    assert caught.value.code == "device-missing"


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"schema_version": 1, "devices": 3}), "[1"])
def test_files_that_are_no_plans_are_said(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with opened("v2/base") as checkpoint, pytest.raises(GlmError) as caught:
        read_plan(path, checkpoint.config)
    assert caught.value.code == "plan-invalid" and str(path) in str(caught.value)


def test_the_cache_may_keep_another_type_than_the_model_computes_in():
    with opened("v2/base") as checkpoint:
        config = checkpoint.config
    cache = KVCache(config, 1, 8, torch.float16)
    key = torch.randn(1, config.num_kv_heads, 3, config.head_dim)
    keys, values = cache.update(0, key, key)
    assert keys.dtype == values.dtype == torch.float32 and torch.equal(keys, key.half().float())
