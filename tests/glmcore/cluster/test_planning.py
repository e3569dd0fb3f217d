"""What runs where: whole replicas where the model fits a node, stages where it does not, nothing where nothing fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from glmcore.cluster.nodes import Node
from glmcore.cluster.planning import Wish, plan_of, specs_of
from glmcore.config.published import NAMED
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
