"""Which replica a prompt goes to: shared beginnings first, but never far out of balance."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmcore.cluster.router import BALANCE, LEAST, Router

LONG = tuple(range(1000, 1000 + 2 * LEAST))


def router(*names: str) -> Router[str]:
    made: Router[str] = Router()
    for name in names:
        made.add(name, parallel=4)
    return made


def test_a_conversation_goes_on_where_it_began() -> None:
    routes = router("a", "b")
    assert routes.choose(LONG) == "a"
    assert routes.choose((1, 2, 3)) == "b"
    routes.ended("a", (*LONG, 7, 8))
    routes.ended("b")
    assert routes.choose((*LONG, 7, 8, 9)) == "a"
    assert routes.choose((*LONG, 7, 8, 9, 10)) == "a"  # busier, and still worth it


def test_what_shares_little_goes_where_there_is_least_to_do() -> None:
    routes = router("a", "b")
    routes.choose(LONG)
    assert routes.choose((*LONG[: LEAST - 1], 5)) == "b"


def test_no_replica_gets_nothing_and_one_that_left_gets_none() -> None:
    assert router().choose(LONG) is None
    routes = router("a", "b")
    routes.choose(LONG)
    routes.remove("a")
    assert routes.choose(LONG) == "b"
    routes.ended("a", LONG)  # its last words
    assert routes.parallel == 4


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_loads_stay_in_balance_whatever_is_asked(asked: list[tuple[int, bool]]) -> None:
    """Prompts of four kinds, of which some answers end at once: no replica is chosen that is far above another."""
    routes = router("a", "b", "c")
    for kind, ends in asked:
        before = {name: route.load for name, route in routes.routes.items()}
        chosen = routes.choose([kind] * 2 * LEAST)
        assert chosen is not None and before[chosen] <= min(before.values()) + BALANCE
        if ends:
            routes.ended(chosen)
    assert all(route.load >= 0 for route in routes.routes.values())
