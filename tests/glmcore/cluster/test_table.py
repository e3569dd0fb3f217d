"""What becomes of a node: examined, used, lost, given rest, back again under its name."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from glmcore.cluster.table import LONGEST_REST_S, LOOK_AGAIN_S, State, Table


def table(*ids: str) -> Table:
    made = Table()
    made.seen((id, f"machine of {id}") for id in ids)
    return made


def serving(*ids: str) -> Table:
    made = table(*ids)
    for id in made.due(0):
        made.examined(id, 0)
    made.began(ids)
    made.serving(ids)
    return made


def test_a_node_is_examined_once_and_then_fit_or_looked_at_again() -> None:
    nodes = table("a", "b")
    assert nodes.due(0) == ["a", "b"] and nodes.due(0) == []
    nodes.examined("a", 10)
    nodes.examined("b", 10, "it lacks config.json")
    assert nodes.fit == ["a"]
    assert nodes.due(10 + LOOK_AGAIN_S - 1) == [] and nodes.due(10 + LOOK_AGAIN_S) == ["a", "b"]


def test_what_was_lost_is_examined_at_once_and_what_fails_again_rests_longer() -> None:
    nodes, now = serving("a"), 100.0
    rests = []
    for _ in range(10):
        nodes.lost(["a"], now, "its process has ended")
        rests.append(nodes.entries["a"].due - now)
        now = nodes.entries["a"].due
        assert nodes.due(now) == ["a"]
        nodes.examined("a", now)
    assert rests[:4] == [0, 1, 2, 4] and rests[-1] == LONGEST_REST_S
    nodes.served(["a"])
    nodes.lost(["a"], now, "its process has ended")
    assert nodes.entries["a"].due == now and nodes.losses == 11


def test_a_machine_that_comes_back_has_its_name_and_a_new_one_the_next() -> None:
    nodes = serving("a", "b")
    assert nodes.seen([("a", "machine of a")]) == ["b"]
    nodes.lost(["b"], 5, "its machine has left")  # too late to matter
    assert nodes.entries["b"].state is State.GONE and nodes.due(99) == []
    nodes.seen([("a", "machine of a"), ("c", "machine of c")])
    assert nodes.entries["c"].name == "node3"
    nodes.seen([("a", "machine of a"), ("c", "machine of c"), ("d", "machine of b")])
    assert nodes.entries["d"].name == "node2" and nodes.due(0) == ["c", "d"]


@example([("join", 0), ("leave", 0), ("join", 0)])
@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "lose", "examine", "spoil"]), st.integers(0, 3))))
def test_whatever_happens_names_are_single_and_only_fit_nodes_are_offered(events: list[tuple[str, int]]) -> None:
    nodes, there, now = Table(), set(), 0.0
    for event, number in events:
        id, now = f"n{number}", now + 100
        there = there | {id} if event == "join" else there - {id} if event == "leave" else there
        nodes.seen((each, each) for each in sorted(there))
        if event == "lose":
            nodes.lost([id], now, "lost")
        if event in ("examine", "spoil"):
            for each in nodes.due(now):
                nodes.examined(each, now, "broken" if event == "spoil" else "")
        names = [entry.name for entry in nodes.entries.values()]
        assert len(set(names)) == len(names)
        assert set(nodes.fit) <= there
        assert all(entry.state is not State.GONE for id, entry in nodes.entries.items() if id in there)
