"""The planner: published constants, laws of the strategies, and requests that make no sense."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmcore.config import NAMED
from glmcore.errors import GlmError
from glmcore.plan import (
    Device,
    Precision,
    format_size,
    kv_bytes_per_token,
    make_plan,
    manual_placement,
    parse_device,
    parse_size,
    pieces,
    plan_from_json,
)

GIB = 2**30
HALF = Precision("float16")
SMALL = replace(NAMED["chatglm2-6b"], num_layers=5)


@pytest.mark.parametrize("name, kib", [("chatglm-6b", 448), ("chatglm2-6b", 28), ("chatglm3-6b", 28), ("glm-4-9b", 40)])
def test_cache_of_a_token_is_the_published_size(name: str, kib: int) -> None:
    config = NAMED[name]
    assert kv_bytes_per_token(config, HALF.dtype) * config.num_layers == kib * 1024


def test_a_cache_in_bfloat16_is_half_as_large_on_the_cpu_and_as_ever_on_a_card() -> None:
    config, devices = NAMED["chatglm2-6b"], [Device("cuda:0", 8 * GIB), Device("cpu", 32 * GIB)]
    plain, halved = (
        make_plan(config, devices, precision=Precision.of(config, "float16", cache=kept), context=8192).devices
        for kept in (None, "bfloat16")
    )
    sizes = [[share.kv_cache_bytes / len(share.layers) for share in shares] for shares in (plain, halved)]
    assert sizes == [[8192 * 1024, 8192 * 2048], [8192 * 1024, 8192 * 1024]]


def test_a_saved_plan_remembers_in_what_keys_and_values_are_kept() -> None:
    config = NAMED["chatglm2-6b"]
    made = make_plan(config, [Device("cpu", 32 * GIB)], precision=Precision.of(config, "float32", cache="bfloat16"))
    assert plan_from_json(json.dumps(made.to_json()), config).cache == "bfloat16"
    older = made.to_json()
    del older["devices"][0]["cache"]
    assert plan_from_json(json.dumps(older), config).cache == "float32"


@pytest.mark.parametrize(
    "name, billions", [("chatglm-6b", 6.17), ("chatglm2-6b", 6.24), ("chatglm3-6b", 6.24), ("glm-4-9b", 9.40)]
)
def test_weights_are_the_published_parameter_counts(name: str, billions: float) -> None:
    total = sum(piece.weights for piece in pieces(NAMED[name], HALF, "cuda:0"))
    assert total / 2 / 1e9 == pytest.approx(billions, abs=0.01)


def test_greedy_leaves_the_second_card_alone_where_the_first_holds_all() -> None:
    plan = make_plan(NAMED["chatglm2-6b"], [Device("cuda:0", 24 * GIB), Device("cuda:1", 24 * GIB)], precision=HALF)
    assert plan.fits and plan.hops == 0 and plan.devices[1].pieces == ()


def test_two_old_8_gb_cards_hold_the_model_of_the_brief() -> None:
    devices = [Device("cuda:0", 8 * GIB), Device("cuda:1", 8 * GIB)]
    plan = make_plan(NAMED["chatglm-6b"], devices, precision=HALF, context=1024)
    assert plan.fits and all(share.pieces for share in plan.devices)
    assert plan.placement["lm_head"] == plan.placement["embedding"]  # tied: one matrix, counted once
    assert plan.hops == 2


def test_one_8_gb_card_is_told_what_would_fit() -> None:
    plan = make_plan(NAMED["chatglm3-6b"], [Device("cuda:0", 8 * GIB)], precision=HALF)
    assert not plan.fits and plan.max_context == 0
    assert 4 * GIB < plan.missing_bytes < 6 * GIB
    assert "--quant int4" in plan.would_fit
    cpu = parse_device(plan.would_fit[-1].removeprefix("--device "))
    helped = make_plan(NAMED["chatglm3-6b"], [Device("cuda:0", 8 * GIB), cpu], precision=HALF)
    assert helped.fits


sizes = st.integers(min_value=0, max_value=4 * GIB)
devices_of = st.lists(sizes.filter(bool), min_size=1, max_size=4).map(
    lambda budgets: [Device(f"cuda:{n}", size) for n, size in enumerate(budgets[:-1])] + [Device("cpu", budgets[-1])]
)


def shares_by_hand(devices, strategy_weights):
    """The smallest largest share over every way to cut the chain: brute force, for comparison."""
    chains = [pieces(SMALL, HALF, device.name) for device in devices]
    best, count = None, len(chains[0])
    for cuts in combinations_with_replacement(range(count + 1), len(devices) - 1):
        edges = (0, *cuts, count)
        plan = None
        worst = 0.0
        for number, device in enumerate(devices):
            held = chains[number][edges[number] : edges[number + 1]]
            from glmcore.plan.shares import Load

            plan = Load(SMALL, HALF, 512, 1).share(device, held)
            if plan.total_bytes > device.budget:
                break
            worst = max(worst, plan.total_bytes / strategy_weights[number])
        else:
            best = worst if best is None else min(best, worst)
    return best


@settings(max_examples=60)
@given(devices_of)
def test_equal_and_loose_find_the_best_cut_there_is(devices: list[Device]) -> None:
    for strategy, weights in (("equal", [1.0] * len(devices)), ("loose", [float(d.budget) for d in devices])):
        plan = make_plan(SMALL, devices, strategy=strategy, precision=HALF, context=512)
        best = shares_by_hand(devices, weights)
        assert plan.fits == (best is not None)
        if plan.fits:
            largest = max(share.total_bytes / weight for share, weight in zip(plan.devices, weights, strict=True))
            assert largest == pytest.approx(best)


@settings(max_examples=60)
@given(devices_of, st.sampled_from(["greedy", "equal", "loose"]))
def test_every_plan_holds_each_piece_once_within_every_budget(devices: list[Device], strategy: str) -> None:
    plan = make_plan(SMALL, devices, strategy=strategy, precision=HALF, context=512)
    if not plan.fits:
        assert plan.missing_bytes > 0 and plan.would_fit
        return
    held = [piece for share in plan.devices for piece in share.pieces]
    assert sorted(held) == sorted(piece.name for piece in pieces(SMALL, HALF, "cpu"))
    assert all(share.total_bytes <= share.budget_bytes for share in plan.devices)
    assert plan.max_context >= 512
    layers = [layer for share in plan.devices for layer in share.layers]
    assert layers == sorted(layers)
    longer = min(plan.max_context + 1, SMALL.max_length)
    if longer > plan.max_context:
        assert not make_plan(SMALL, devices, strategy=strategy, precision=HALF, context=longer).fits


def test_bandwidth_decides_equal_shares_and_the_expected_speed() -> None:
    devices = [Device("cuda:0", 24 * GIB, 900e9), Device("cpu", 24 * GIB, 20e9)]
    plan = make_plan(NAMED["chatglm2-6b"], devices, strategy="equal", precision=HALF)
    fast, slow = plan.devices
    assert fast.weights_bytes > 20 * slow.weights_bytes
    assert plan.tokens_per_s is not None and 30 < plan.tokens_per_s < 80


def test_loose_states_its_head_room():
    devices = [Device("cuda:0", 8 * GIB), Device("cuda:1", 16 * GIB)]
    plan = make_plan(NAMED["chatglm2-6b"], devices, strategy="loose", precision=HALF)
    least = min(1 - share.total_bytes / share.budget_bytes for share in plan.devices)
    assert f"head-room: {least:.0%} of every used device's budget" in plan.reasons[-1]


def test_the_first_generations_prompt_is_counted_whole():
    def workspace(name: str, context: int) -> int:
        made = make_plan(NAMED[name], [Device("cpu", 64 * GIB)], precision=HALF, context=context)
        return made.devices[0].workspace_bytes

    assert workspace("chatglm-6b", 2048) > 3 * workspace("chatglm-6b", 512)
    assert workspace("chatglm2-6b", 2048) < 1.2 * workspace("chatglm2-6b", 512)  # in parts of 512


def test_saved_plan_comes_back_and_fits_only_its_model() -> None:
    config = NAMED["chatglm2-6b"]
    plan = make_plan(config, [Device("cpu", 24 * GIB)], precision=HALF)
    text = json.dumps(plan.to_json())
    assert plan_from_json(text, config).placement == plan.placement
    with pytest.raises(GlmError, match="the plan is for chatglm2-6b") as caught:
        plan_from_json(text, NAMED["glm-4-9b"])
    assert caught.value.code == "plan-invalid"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema_version": 1, "devices": [{}]}', "no json"])
def test_what_is_no_plan_is_said_so(text: str) -> None:
    with pytest.raises(GlmError, match="this is no plan"):
        plan_from_json(text, SMALL)


@pytest.mark.parametrize(
    "written, size", [("7GiB", 7 * GIB), ("7.5 GB", 7_500_000_000), ("512m", 512_000_000), ("12", 12)]
)
def test_sizes_as_people_write_them(written: str, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize(
    "written",
    [
        "",
        "x",
        "7GiB7",
        "-1GiB",
        "1e9",
        "cuda:0",
        "cuda:0=",
        "gpu0=7GiB",
        "cpu=0",
        "cpu=lots",
        "cpu=nan",
        "cpu=1GiB@fast",
        "cpu=1GiB@",
        "cpu=1GiB@0",
        "cpu=1GiB@-3GB",
        "cuda:-1=1GiB",
        "cuda:0.5=1GiB",
        "=1GiB",
    ],
)
def test_devices_that_are_none_are_refused(written: str) -> None:
    with pytest.raises(GlmError) as caught:
        parse_device(written)
    assert caught.value.code == "usage"


@pytest.mark.parametrize("change", [{"strategy": "best"}, {"context": 0}, {"context": 10**9}, {"batch": 0}])
def test_senseless_requests_are_usage_errors(change: dict) -> None:
    with pytest.raises(GlmError) as caught:
        make_plan(SMALL, [Device("cpu", GIB)], **{"precision": HALF, **change})
    assert caught.value.code == "usage"


def test_the_same_device_twice_is_refused() -> None:
    with pytest.raises(GlmError, match="cpu is given twice"):
        make_plan(SMALL, [Device("cpu", GIB), Device("cpu", GIB)], precision=HALF)


@given(st.integers(0, 2**50))
def test_sizes_for_people_are_short(size: int) -> None:
    assert len(format_size(size)) <= 16


BY_HAND = manual_placement(NAMED["chatglm-6b"], "cpu", {"cuda:0": "1-4,9-14", "cuda:1": "5-8,15-28"}, "cuda:1")


def test_a_placement_by_hand_is_kept_as_it_is():
    devices = [Device("cuda:0", 8 * GIB), Device("cuda:1", 8 * GIB), Device("cpu", 4 * GIB)]
    plan = make_plan(NAMED["chatglm-6b"], devices, strategy="manual", placement=BY_HAND, precision=HALF)
    assert plan.fits and plan.placement == BY_HAND
    assert plan.hops == 5  # cpu, 0, 1, 0, 1, and back to the tied head
    # Vectors are float32 on the CPU and 16 bits on the cards; there are none in the embedding.
    wanted = sum(piece.weights for piece in pieces(NAMED["chatglm-6b"], HALF, "cuda:0"))
    assert sum(share.weights_bytes for share in plan.devices) == wanted
    assert any("layers 0-3, 8-13" in reason for reason in plan.reasons)


def test_a_placement_by_hand_that_does_not_fit_says_where():
    devices = [Device("cuda:0", 2 * GIB), Device("cuda:1", 8 * GIB), Device("cpu", 4 * GIB)]
    plan = make_plan(NAMED["chatglm-6b"], devices, strategy="manual", placement=BY_HAND, precision=HALF)
    assert not plan.fits and plan.reasons[0].startswith("cuda:0: ")
    assert "--quant int4" in plan.would_fit
    more = parse_device(plan.would_fit[-1].removeprefix("--device "))
    helped = make_plan(NAMED["chatglm-6b"], [more, *devices[1:]], strategy="manual", placement=BY_HAND, precision=HALF)
    assert more.name == "cuda:0" and helped.fits


@pytest.mark.parametrize("number, name", [("0", "greedy"), ("1", "equal"), ("2", "loose")])
def test_the_numbered_strategies_are_names(number: str, name: str) -> None:
    devices = [Device("cuda:0", 3 * GIB), Device("cuda:1", 4 * GIB)]
    numbered = make_plan(SMALL, devices, strategy=number, precision=HALF)
    assert numbered == make_plan(SMALL, devices, strategy=name, precision=HALF) and numbered.strategy == name


@pytest.mark.parametrize(
    "strategy, placement, said",
    [
        ("manual", None, "go together"),
        ("greedy", BY_HAND, "go together"),
        ("manual", BY_HAND, "cuda:1 is asked for and has no budget"),
    ],
)
def test_placements_by_hand_without_their_devices_are_refused(strategy, placement, said):
    devices = [Device("cuda:0", 8 * GIB), Device("cpu", GIB)]
    with pytest.raises(GlmError, match=said):
        make_plan(NAMED["chatglm-6b"], devices, strategy=strategy, placement=placement, precision=HALF)


def test_a_plan_of_another_version_is_refused():
    config = NAMED["chatglm2-6b"]
    data = make_plan(config, [Device("cpu", 24 * GIB)], precision=HALF).to_json()
    with pytest.raises(GlmError, match="the plan has schema version 2, this program knows 1"):
        plan_from_json(json.dumps({**data, "schema_version": 2}), config)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
SAVED = make_plan(SMALL, [Device("cuda:0", GIB), Device("cpu", 4 * GIB)], precision=HALF).to_json()


@settings(max_examples=150)
@given(st.sampled_from(sorted(SAVED)), junk, st.sampled_from(["", *sorted(SAVED["devices"][0])]))
def test_an_edited_plan_is_a_plan_or_said_to_be_none(key: str, value: object, inner: str) -> None:
    edited = json.loads(json.dumps(SAVED))
    if key == "devices" and inner:
        edited["devices"][0][inner] = value
    else:
        edited[key] = value
    try:
        plan = plan_from_json(json.dumps(edited), SMALL)
    except GlmError as error:
        assert error.code == "plan-invalid"
    else:
        assert set(plan.placement) == {piece.name for piece in pieces(SMALL, HALF, "cpu")}


@pytest.mark.parametrize(
    "change", [{"dtype": "float8"}, {"quantize": "int3"}, {"strategy": "best"}, {"context": 0}, {"batch": "2"}]
)
def test_words_that_no_plan_holds_are_refused(change: dict) -> None:
    with pytest.raises(GlmError, match=f"{next(iter(change))} is"):
        plan_from_json(json.dumps({**SAVED, **change}), SMALL)
