"""What runs where: whole replicas where the model fits a node, stages where it does not, nothing where nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from adapter_folders import write_lora, write_prefix
from golden_cases import GOLDEN

from glmcore.cluster.nodes import Node
from glmcore.cluster.planning import Wish, plan_of, specs_of
from glmcore.cluster.request import Request
from glmcore.cluster.starting import cards
from glmcore.config import ModelConfig
from glmcore.config.published import NAMED
from glmcore.errors import GlmError
from glmcore.place.loader import load_model
from glmcore.plan import Precision

CONFIG = NAMED["chatglm3-6b"]
GIB = 2**30
WISH = Wish(CONFIG, Precision.of(CONFIG, "float16", 4), 2048)  # about 3.4 GiB


def nodes(*sizes: float, boots: Sequence[str] = ()) -> list[Node]:
    return [
        Node(f"id{n}", f"node{n}", "", {
            "boot": boots[n] if boots else str(n), "threads": 4,
            "devices": [{"name": "cpu", "budget": int(size * GIB), "bandwidth": None}],
        }, cpus=8)
        for n, size in enumerate(sizes)
    ]  # fmt: skip


Spans = list[list[tuple[str, tuple[int, int]]]]


def spans(wish: Wish, *sizes: float, running: int = 0, **more: Sequence[str]) -> Spans:
    machines = nodes(*sizes, **more)
    made = specs_of(wish, plan_of(wish, machines, running), machines)
    return [[(share.node.name, share.layers) for share in spec.shares] for spec in made]


def test_a_replica_on_each_node_that_holds_the_model_and_no_more_than_are_wanted() -> None:
    assert spans(WISH, 8, 1, 8) == [[("node0", (0, 28))], [("node2", (0, 28))]]
    assert spans(replace(WISH, most=3), 8, 8, 8, running=2) == [[("node0", (0, 28))]]
    assert spans(replace(WISH, most=2), 8, 8, running=2) == []


def test_where_no_node_holds_it_several_do() -> None:
    [[(first, (zero, cut)), (second, (again, end))]] = spans(WISH, 1.7, 3, 1)
    assert first != second and (zero, again, end) == (0, cut, 28)


def test_stages_that_are_asked_for_are_made_and_a_stage_larger_than_its_node_is_not() -> None:
    asked = replace(WISH, stages=2)
    assert [len(spec) for spec in spans(asked, 9, 9, 9, 9, 9)] == [2, 2]
    assert spans(asked, 8, 0.1) == []  # not even a layer
    assert spans(asked, 8) == [] and spans(WISH, 1, 0.5) == []


def test_nodes_on_one_machine_share_what_is_free_there() -> None:
    assert len(spans(WISH, 6, 6)) == 2
    assert len(spans(WISH, 5, 5, boots=("a", "a"))[0]) == 2  # 2.5 GiB each


def test_a_process_with_anything_on_a_card_is_given_all_cards_of_its_node() -> None:
    """So that they have the numbers that the plan gave them."""
    [machine] = nodes(1)
    speeds = {"cuda:0": 1e11, "cuda:1": 2e11, "cpu": 1e10}
    devices = [{"name": name, "budget": 6 * GIB, "bandwidth": speed} for name, speed in speeds.items()]
    facts = {**machine.facts, "devices": devices}
    for gpus, used in ((2, {"cuda:1"}), (0, {"cpu"})):
        node = replace(machine, facts=facts, gpus=gpus)
        [spec] = specs_of(WISH, plan_of(WISH, [node]), [node])
        assert {device.name for device in spec.shares[0].plan.devices if device.pieces} == used
        assert cards(spec.shares[0]) == gpus


def test_what_runs_through_the_kernel() -> None:
    model = str(GOLDEN / "v2" / "base")
    assert not Request(model, dtype="float32").kernel
    assert Request(model, quant="int8").kernel and Request(model, dtype="bfloat16").kernel
    assert Request(str(GOLDEN / "v2" / "int4")).kernel


def test_a_p_tuning_lies_whole_and_a_lora_need_not(tmp_path: Path) -> None:
    model = GOLDEN / "v2" / "base"
    config = ModelConfig.from_folder(model)
    write_lora(tmp_path / "lora", load_model(model))
    prefix, lora = write_prefix(tmp_path / "prefix", config), tmp_path / "lora"
    assert asked(model, lora, None).stages is None and asked(model, lora, 2).stages == 2
    assert asked(model, prefix, None).stages == asked(model, prefix, 1).stages == 1
    with pytest.raises(GlmError, match="a P-Tuning is put on a whole model"):
        asked(model, prefix, 2)


def asked(model: Path, adapter: Path, stages: int | None) -> Wish:
    return Request(str(model), stages=stages, loading={"adapter": str(adapter)}).wish
