"""Which machines make up which replica, so that all replicas together give most tokens.

Few machines are tried in every way. Of more, a first grouping is made large machine by large machine, and then
improved: again and again a few of them are grouped anew in the best way there is, until nothing gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from glmcore.plan.cluster.hosts import Host
from glmcore.plan.cluster.pipelines import Way, fastest

# Machines that are grouped in every way: the ways are 3 to this power.
WINDOW = 5
# Windows that are looked at, whether or not they gain: what keeps a plan for many machines quick.
MOST_WINDOWS = 300

Ways = list[Way]


def rate(ways: Sequence[Way]) -> float:
    """Tokens/s of all together, one answer each."""
    return sum(1 / way.seconds for way in ways)


def grouped(hosts: Sequence[Host], most: int | None, stages: int | None) -> Ways:
    """The replicas, ``most`` of them at most, each of so many ``stages`` where that is given."""
    if len(hosts) <= WINDOW:
        return best(hosts, most, stages)
    return improved(hosts, first_grouping(hosts, most, stages), most, stages)


def best(hosts: Sequence[Host], most: int | None, stages: int | None) -> Ways:
    """The best of all groupings of a few machines, some of which may get nothing."""
    ways: dict[int, Way] = {}
    for mask in range(1, 1 << len(hosts)):
        members = [host for number, host in enumerate(hosts) if mask >> number & 1]
        if stages in (None, len(members)) and (way := fastest(members)) is not None:
            ways[mask] = way

    @cache
    def settle(free: int, left: int) -> tuple[float, tuple[int, ...]]:
        """The most tokens/s of the machines in ``free`` in ``left`` replicas at most, and these."""
        if not free or not left:
            return 0.0, ()
        lowest = free & -free
        found = []
        for mask, way in ways.items():
            if mask & lowest and mask & free == mask:
                speed, chosen = settle(free ^ mask, left - 1)
                found.append((speed + 1 / way.seconds, (mask, *chosen)))
        return max((*found, settle(free ^ lowest, left)), key=lambda each: each[0])  # of equals the first one

    count = len(hosts) if most is None else most
    return [ways[mask] for mask in settle((1 << len(hosts)) - 1, count)[1]]


def first_grouping(hosts: Sequence[Host], most: int | None, stages: int | None) -> Ways:
    """The largest machine that is left, with as few and as small others as hold the model."""
    left, ways = sorted(hosts, key=lambda host: (-host.capacity, host.node.name)), Ways()
    while left and (most is None or len(ways) < most):
        way = with_largest(left, stages)
        if way is None:
            break
        ways.append(way)
        left = [host for host in left if host not in way.hosts]
    return ways


def with_largest(left: Sequence[Host], stages: int | None) -> Way | None:
    """The largest machine with others that stand side by side in the order of their size; None where nothing fits."""
    largest, *others = left
    for count in range(1, len(left) + 1) if stages is None else (stages,):
        if len(left) < count or fastest(left[:count]) is None:
            continue
        for start in range(len(others) - count + 1, -1, -1):  # from the smallest on
            way = fastest([largest, *others[start : start + count - 1]])
            if way is not None:
                return way
    return None


def improved(hosts: Sequence[Host], ways: Ways, most: int | None, stages: int | None) -> Ways:
    """Grouped anew, window by window, as long as it gains."""
    looked: set[frozenset[Host]] = set()
    gains = True
    while gains:
        gains = False
        for window in windows(hosts, ways):
            if frozenset(window) in looked:
                continue
            if len(looked) == MOST_WINDOWS:
                return ways
            looked.add(frozenset(window))
            inside = [way for way in ways if way.hosts[0] in window]
            outside = [way for way in ways if way.hosts[0] not in window]
            anew = best(window, None if most is None else most - len(outside), stages)
            if rate(anew) > rate(inside) * (1 + 1e-9):
                ways, gains = [*outside, *anew], True
                break
    return ways


def windows(hosts: Sequence[Host], ways: Ways) -> Iterator[list[Host]]:
    """Machines that may do better together: a replica and idle ones, the longest first, then two replicas."""
    used = {id(host) for way in ways for host in way.hosts}
    idle = sorted((host for host in hosts if id(host) not in used), key=lambda host: (-host.capacity, host.node.name))
    longest = sorted(ways, key=lambda way: -way.seconds)
    for way in longest:
        if idle and len(way.hosts) < WINDOW:
            yield [*way.hosts, *idle[: WINDOW - len(way.hosts)]]
    for number, one in enumerate(longest):
        for other in longest[number + 1 :]:
            if 2 < len(one.hosts) + len(other.hosts) <= WINDOW:
                yield [*one.hosts, *other.hosts]
