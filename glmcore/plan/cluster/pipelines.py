"""The fastest way of one replica through some machines.

A token's time is the sum over its stages, so every layer goes where it is read fastest and fits: for machines in given
roles that is filled in from the fastest run of layers on, which is exact, and the two ends are tried in turn. A hop
between two machines costs the mean of what their links cost, so that in which order the others stand does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from glmcore.plan.cluster.hosts import ALONE, FIRST, LAST, MIDDLE, Host, Offer, Role

# Machines whose ends are all tried; of more, those that come first by speed or by room.
ALL_TRIED, TRIED = 6, 3
# How much longer a token may take, so that stages take their turns more evenly.
EVENING = 0.03


@dataclass(frozen=True)
class Way:
    """Machines in their order, the layers of each, and the seconds of a token's trip, ``hops`` of them on the way."""

    hosts: tuple[Host, ...]
    counts: tuple[int, ...]
    seconds: float
    hops: float


def fastest(hosts: Sequence[Host]) -> Way | None:
    """The fastest way through all of these machines; None where the model does not fit, or has too few layers."""
    layers = hosts[0].layers
    if len(hosts) > layers or sum(host.capacity for host in hosts) < layers:
        return None
    if len(hosts) == 1:
        return alone(hosts[0])
    best: Way | None = None
    for first, last in ends(hosts):
        order = (first, *(host for host in hosts if host not in (first, last)), last)
        hops = hop_seconds(order)
        for offers in product(*(host.offers(role) for host, role in zip(order, roles(len(order)), strict=True))):
            found = shared(offers, layers)
            if found is not None and (best is None or found[1] + hops < best.seconds):
                best = Way(order, found[0], found[1] + hops, hops)
    return best


def alone(host: Host) -> Way | None:
    """Where a machine holds the whole model, nothing hops."""
    layers = host.layers
    return Way((host,), (layers,), host.seconds(layers, ALONE), 0.0) if host.fill(layers, ALONE) else None


def roles(count: int) -> list[Role]:
    """Of the stages of a replica in their order."""
    return [ALONE] if count == 1 else [FIRST, *[MIDDLE] * (count - 2), LAST]


def ends(hosts: Sequence[Host]) -> Iterator[tuple[Host, Host]]:
    """Which machines to try as the first and the last."""
    tried = list(hosts)
    if len(hosts) > ALL_TRIED:
        by_speed = sorted(hosts, key=lambda host: host.seconds(1, MIDDLE) if host.capacity else float("inf"))
        by_room = sorted(hosts, key=lambda host: -host.capacity)
        tried = list(dict.fromkeys((*by_speed[:TRIED], *by_room[:TRIED])))
    return ((first, last) for first in tried for last in tried if first is not last)


def hop_seconds(order: Sequence[Host]) -> float:
    """Of a token's way from the first machine to the last, as a hidden state, and back, as a number.

    The leader is beside the last stage, so logits do not travel.
    """
    if len(order) == 1:
        return 0.0
    return sum(host.reaching for host in order) - (order[0].carrying + order[-1].carrying) / 2


def shared(offers: Sequence[Offer], layers: int) -> tuple[tuple[int, ...], float] | None:
    """How many layers each takes, so that the seconds are fewest, and these; None where they do not come to all."""
    counts, runs = [offer.least for offer in offers], []
    left, seconds = layers - sum(counts), 0.0
    if left < 0 or sum(offer.most for offer in offers) < layers:
        return None
    for number, offer in enumerate(offers):
        seconds += offer.fixed
        taken = offer.least
        for each, count in offer.runs:
            used = min(taken, count)
            seconds, taken = seconds + used * each, taken - used
            if count > used:
                runs.append((each, number, count - used))
    for each, number, count in sorted(runs):
        used = min(left, count)
        counts[number] += used
        seconds, left = seconds + used * each, left - used
    return tuple(counts), seconds


def evened(way: Way) -> Way:
    """The same machines with the slowest stage as quick as it can be for little more of a token's time.

    A prompt's chunks follow each other through the stages, so it takes as long as the slowest one; and bandwidths that
    were measured differ by some percent where nothing does.
    """
    order, counts = list(zip(way.hosts, roles(len(way.hosts)), strict=True)), list(way.counts)
    times = [host.seconds(count, role) for (host, role), count in zip(order, counts, strict=True)]
    while len(order) > 1:
        slowest = times.index(max(times))
        fewer = order[slowest][0].seconds(counts[slowest] - 1, order[slowest][1]) if counts[slowest] > 1 else None
        offers = [
            (host.seconds(counts[number] + 1, role), number)
            for number, (host, role) in enumerate(order)
            if number != slowest and host.fill(counts[number] + 1, role)
        ]
        if fewer is None or not offers:
            break
        more, taker = min(offers)
        changed = {slowest: fewer, taker: more}
        after = [changed.get(number, seconds) for number, seconds in enumerate(times)]
        if more >= times[slowest] or sum(after) + way.hops > way.seconds * (1 + EVENING):
            break
        counts[slowest], counts[taker], times = counts[slowest] - 1, counts[taker] + 1, after
    return Way(way.hosts, tuple(counts), sum(times) + way.hops, way.hops)
