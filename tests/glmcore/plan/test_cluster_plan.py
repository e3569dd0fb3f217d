"""The planner over machines: laws of every plan, a search of all plans beside it where that can be done, its speed."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from itertools import combinations, pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmcore.config import NAMED
from glmcore.errors import GlmError
from glmcore.layout import pieces_of_part
from glmcore.plan import Device, Precision
from glmcore.plan.cluster import Link, Node, cluster_plan_from_json, describe, plan_cluster
from glmcore.plan.cluster.grouping import grouped, rate
from glmcore.plan.cluster.hosts import FIRST, LAST, MIDDLE, Host
from glmcore.plan.cluster.nodes import speed
from glmcore.plan.cluster.pipelines import EVENING, Way, evened, roles
from glmcore.plan.cluster.planner import hosts_of
from glmcore.plan.shares import Load, chain_shares

GIB, MIB = 2**30, 2**20
HALF = Precision("float16")
SIX = NAMED["chatglm3-6b"]
SMALL = replace(SIX, num_layers=5, hidden_size=512, ffn_hidden_size=1370, num_heads=4, vocab_size=8000)
TIED = replace(NAMED["chatglm-6b"], num_layers=5, hidden_size=512, ffn_hidden_size=1370, num_heads=4, num_kv_heads=4,
               vocab_size=8000)  # fmt: skip
SHORT = {"precision": HALF, "context": 64}


def node(name: str, gib: float, gbs: float | None = 20, *, cards: tuple[float, ...] = (), **more) -> Node:
    """A machine with so much memory on its CPU and its cards."""
    found = [Device(f"cuda:{n}", int(size * GIB), 400e9) for n, size in enumerate(cards)]
    return Node(name, (*found, Device("cpu", int(gib * GIB), gbs and gbs * 1e9)), **more)


def layers_of(plan) -> list[list[tuple[str, int, int]]]:
    return [[(stage.node, stage.first, stage.last) for stage in replica.stages] for replica in plan.replicas]


def test_replicas_where_a_node_holds_the_model_and_stages_where_it_does_not() -> None:
    plan = plan_cluster(SIX, [node("a", 20), node("b", 20), node("c", 9), node("d", 9)], precision=HALF)
    assert [len(replica.stages) for replica in plan.replicas] == [1, 1, 2]
    assert {stage.node for stage in plan.replicas[-1].stages} == {"c", "d"}
    assert not plan.idle and plan.fits


def test_a_broken_node_gets_nothing_and_says_why() -> None:
    nodes = [node("a", 64, broken="libcuda is a stub; glmdoctor fix"), node("b", 9), node("c", 9)]
    plan = plan_cluster(SIX, nodes, precision=HALF)
    assert {name for replica in layers_of(plan) for name, *_ in replica} == {"b", "c"}
    assert plan.refused == {"a": "libcuda is a stub; glmdoctor fix"}
    assert "gets nothing: a, libcuda is a stub; glmdoctor fix" in describe(plan)
    alone = plan_cluster(SIX, nodes[:1], precision=HALF)
    assert not alone.fits and "libcuda is a stub" in alone.reasons[0]


def test_a_slow_network_keeps_a_fast_node_out_of_a_pipeline_and_a_quick_one_lets_it_in() -> None:
    """A card with little memory beside a machine that holds all: worth a hop, but not any hop."""
    nodes = [node("big", 20, 10), Node("card", (Device("cuda:0", 6 * GIB, 900e9),))]
    quick, slow = (
        plan_cluster(SIX, [replace(each, link=link) for each in nodes], precision=HALF)
        for link in (Link(1e9, 1e-3), Link(1e9, 1.0))
    )
    assert len(quick.replicas[0].stages) == 2 and len(slow.replicas[0].stages) == 1
    assert quick.tokens_per_s > 1.3 * slow.tokens_per_s and slow.idle == ("card",)


def test_what_was_asked_for_is_kept_to() -> None:
    nodes = [node(name, 20) for name in "abcd"]
    assert len(plan_cluster(SIX, nodes, precision=HALF).replicas) == 4
    two = plan_cluster(SIX, nodes, precision=HALF, replicas=2)
    assert len(two.replicas) == 2
    cut = plan_cluster(SIX, nodes, precision=HALF, stages=2)
    assert [len(replica.stages) for replica in cut.replicas] == [2, 2]
    assert "as many as were asked for" in cut.reasons[1] and "faster" not in " ".join(cut.reasons)
    three = plan_cluster(SIX, nodes[:3], precision=HALF, stages=2)
    assert three.reasons[-1] == f"{three.idle[0]} holds no further model in 2 stages and would make none faster"
    five = plan_cluster(SIX, nodes, precision=HALF, replicas=5)
    assert len(five.replicas) == 4 and "5 replicas were asked for, 4 can be made" in five.reasons
    for wrong in ({"stages": 0}, {"stages": 29}, {"replicas": 0}, {"context": 0}, {"batch": 0}):
        with pytest.raises(GlmError) as raised:
            plan_cluster(SIX, nodes, **{"precision": HALF, **wrong})
        assert raised.value.code == "usage"
    with pytest.raises(GlmError, match="a is given twice"):
        plan_cluster(SIX, [nodes[0], nodes[0]], precision=HALF)


def test_what_does_not_fit_says_by_how_much_and_what_would() -> None:
    nodes = [node("a", 3), node("b", 3)]
    plan = plan_cluster(SIX, nodes, precision=HALF)
    assert not plan.fits and 5 * GIB < plan.missing_bytes < 9 * GIB
    assert "--quant int4" in plan.would_fit
    bits = replace(HALF, bits=4, embedding_bits=8)
    assert plan_cluster(SIX, nodes, precision=bits).fits
    more = float(plan.would_fit[-1].removeprefix("one node more with ").removesuffix(" GiB free"))
    assert plan_cluster(SIX, [*nodes, node("c", more + 0.01)], precision=HALF).fits
    assert not plan_cluster(SIX, [*nodes, node("c", more - 1.5)], precision=HALF).fits
    one = plan_cluster(SIX, [node("a", 9), node("b", 9)], precision=HALF, stages=1)
    assert not one.fits and one.would_fit[0] == "--stages auto"
    for text in (describe(plan), describe(one), describe(plan_cluster(SIX, [], precision=HALF))):
        assert "does not fit" in text and "would fit:" in text


sizes = st.integers(4, 60).map(lambda number: number * MIB)
speeds = st.sampled_from([5e9, 20e9, 60e9, 400e9])
links = st.sampled_from([Link(117e6, 0.5e-3), Link(1.2e9, 50e-6), Link(12e6, 5e-3)])


@st.composite
def clusters(draw, most: int) -> list[Node]:
    found = []
    for number in range(draw(st.integers(1, most))):
        devices = [Device("cpu", draw(sizes), draw(speeds))]
        if draw(st.integers(0, 3)) == 0:
            devices.insert(0, Device("cpu:1", draw(sizes), draw(speeds)))  # a second one, without a card's own costs
        found.append(Node(f"n{number}", tuple(devices), draw(links)))
    return found


models = st.sampled_from([SMALL, TIED])


@settings(max_examples=120)
@given(models, clusters(9), st.none() | st.integers(1, 3), st.none() | st.integers(1, 3))
def test_every_plan_holds_each_layer_once_in_each_replica_within_every_budget(config, nodes, replicas, stages) -> None:
    plan = plan_cluster(config, nodes, replicas=replicas, stages=stages, **SHORT)
    budgets = {(each.name, device.name): device.budget for each in nodes for device in each.devices}
    used = [stage.node for replica in plan.replicas for stage in replica.stages]
    assert len(used) == len(set(used)) and sorted([*used, *plan.idle]) == sorted(each.name for each in nodes)
    assert plan.fits == bool(plan.replicas) and (plan.fits or plan.would_fit)
    assert replicas is None or len(plan.replicas) <= replicas
    for replica in plan.replicas:
        assert stages in (None, len(replica.stages))
        edges = [0, *(stage.last for stage in replica.stages)]
        assert [stage.first for stage in replica.stages] == edges[:-1] and edges[-1] == config.num_layers
        assert all(first < last for first, last in pairwise(edges))
        for stage in replica.stages:
            held = [piece for device in stage.devices for piece in device.pieces]
            assert sorted(held) == sorted(pieces_of_part(config, stage.first, stage.last))
            for device in stage.devices:
                assert device.total_bytes <= device.budget_bytes == budgets[stage.node, device.name]
    if plan.fits:
        assert cluster_plan_from_json(json.dumps(plan.to_json()), config) == plan


def trip(config, order, counts, load) -> float | None:
    """Seconds of a token, from the plan of each stage; None where one does not fit."""
    edges = [sum(counts[:number]) for number in range(len(counts) + 1)]
    seconds = 0.0
    for each, (first, last) in zip(order, pairwise(edges), strict=True):
        kinds: dict = {}
        devices = Host(each, load, kinds).devices
        shares = chain_shares(load, devices, "greedy", first, last)
        if shares is None:
            return None
        for share, device in zip(shares, devices, strict=True):
            read = share.weights_bytes + share.kv_cache_bytes
            table = "embedding" in share.pieces and not (config.tie_embeddings and last == config.num_layers)
            read -= load.size(load.chain(device)[0]) if table else 0
            seconds += read / speed(device)
    hidden = 4 * config.hidden_size
    for one, other in pairwise(order):
        seconds += sum(each.link.latency + hidden / each.link.bandwidth for each in (one, other)) / 2
    return seconds + (order[0].link.latency + order[-1].link.latency) / 2 * (len(order) > 1)


def searched(config, nodes, load) -> float:
    """Tokens/s of the best of all plans: every grouping, every order, every cut."""
    best = {}
    for count in range(1, len(nodes) + 1):
        for chosen in combinations(nodes, count):
            found = [
                trip(config, order, counts, load)
                for order in permutations(chosen)
                for counts in cuts(config.num_layers, count)
            ]
            if any(found):
                best[frozenset(each.name for each in chosen)] = min(filter(None, found))

    def settle(free: frozenset[str]) -> float:
        rates = [1 / seconds + settle(free - names) for names, seconds in best.items() if names <= free]
        return max(rates, default=0.0)

    return settle(frozenset(each.name for each in nodes))


def cuts(layers: int, count: int) -> list[tuple[int, ...]]:
    edges = [(0, *inner, layers) for inner in combinations(range(1, layers), count - 1)]
    return [tuple(last - first for first, last in pairwise(each)) for each in edges]


@settings(max_examples=80)
@given(models, clusters(4))
def test_no_plan_for_a_few_nodes_is_faster(config, nodes) -> None:
    load = Load(config, HALF, 64, 1)
    best, ways = searched(config, nodes, load), grouped(hosts_of(load, nodes), None, None)
    assert rate(ways) == pytest.approx(best)
    plan = plan_cluster(config, nodes, **SHORT)
    assert plan.fits == bool(ways)
    if plan.fits:
        assert plan.tokens_per_s >= best / (1 + EVENING)
        for before, after in zip(ways, map(evened, ways), strict=True):
            assert sum(after.counts) == config.num_layers and slowest(after) <= slowest(before)


def slowest(way: Way) -> float:
    stages = zip(way.hosts, way.counts, roles(len(way.hosts)), strict=True)
    return max(host.seconds(count, role) for host, count, role in stages)


def test_machines_that_hardly_differ_get_equal_parts() -> None:
    plan = plan_cluster(SIX, [node("a", 20, 20), node("b", 20, 20.5)], precision=HALF, stages=2)
    counts = [stage.last - stage.first for stage in plan.replicas[0].stages]
    assert min(counts) >= 12
    uneven = plan_cluster(SIX, [node("a", 20, 20), node("b", 20, 40)], precision=HALF, stages=2)
    assert {stage.node: stage.last - stage.first for stage in uneven.replicas[0].stages}["a"] <= 2


@settings(max_examples=60)
@given(models, clusters(1), st.sampled_from([FIRST, MIDDLE, LAST]))
def test_what_fits_a_machine_is_what_its_plan_says(config, nodes, role) -> None:
    load = Load(config, HALF, 64, 1)
    host = Host(nodes[0], load, {})
    for count in range(1, config.num_layers):
        first = 0 if role.first else config.num_layers - count if role.last else 1
        if not role.last and first + count == config.num_layers:
            continue
        shares = chain_shares(load, host.devices, "greedy", first, first + count)
        filled = host.fill(count, role)
        assert (shares is None) == (filled is None)
        if filled is not None:
            assert tuple(len(share.layers) for share in shares) == filled.layers


def unequal(count: int, seed: int) -> list[Node]:
    chance = random.Random(seed)
    found = []
    for number in range(count):
        cards = tuple(chance.choice((8, 12, 16, 24)) for _ in range(chance.choice((0, 0, 0, 1, 2))))
        link = Link(chance.choice((117e6, 1.2e9)), chance.uniform(50e-6, 1e-3))
        broken = "its driver is broken" if chance.random() < 0.1 else ""
        found.append(node(f"node{number}", chance.uniform(1, 14), chance.uniform(8, 60), cards=cards, link=link,
                          broken=broken))  # fmt: skip
    return found


@pytest.mark.parametrize("config", [SIX, NAMED["chatglm-6b"], NAMED["glm-4-9b"]])
def test_64_unequal_nodes_are_planned_well_within_a_second(config) -> None:
    """Of CPU time, which another program's does not count in."""
    nodes = unequal(64, 5)
    plan_cluster(config, nodes[:1], precision=HALF)
    started = time.process_time()
    plan = plan_cluster(config, nodes, precision=HALF)
    taken = time.process_time() - started
    assert taken < 1, taken
    broken = {each.name for each in nodes if each.broken}
    used = {stage.node for replica in plan.replicas for stage in replica.stages}
    assert set(plan.refused) == broken and not used & broken and len(plan.replicas) > 20
    whole = [each for each in nodes if not each.broken and plan_cluster(config, [each], precision=HALF).fits]
    assert len(plan.replicas) > len(whole)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=4,
)  # fmt: skip
SAVED = plan_cluster(SIX, [node("a", 9), node("b", 9)], precision=HALF).to_json()


@settings(max_examples=120)
@given(st.sampled_from(sorted(SAVED)), junk, st.sampled_from(["", "stages", "first", "devices", "node"]))
def test_an_edited_plan_is_a_plan_or_said_to_be_none(key: str, value: object, inner: str) -> None:
    edited = json.loads(json.dumps(SAVED))
    if inner == "stages":
        edited["replicas"][0]["stages"] = value
    elif inner:
        edited["replicas"][0]["stages"][1][inner] = value
    else:
        edited[key] = value
    try:
        plan = cluster_plan_from_json(json.dumps(edited), SIX)
    except GlmError as error:
        assert error.code == "plan-invalid"
    else:
        assert plan.replicas[0].stages[0].first == 0


def test_a_plan_says_what_it_is_in_words() -> None:
    text = describe(plan_cluster(SIX, [node("a", 9), node("b", 9), node("c", 1)], precision=HALF))
    assert "replica 1: 2 stages, about" in text and "ms of a token on the way" in text and "idle: c" in text
    assert "a/cpu: " in text and "layers" in text
    unknown = describe(plan_cluster(SIX, [node("a", 20, None)], precision=HALF))
    assert "speed unknown (not every bandwidth is measured)" in unknown and "of unknown speed" in unknown
