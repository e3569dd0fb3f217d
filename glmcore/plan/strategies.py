"""How a chain of pieces is cut over devices in their given order. Ours to define: the names come from a closed runtime.

greedy  fill each device up to its budget before the next one is touched: fewest devices, fewest hops.
equal   the smallest largest share, where a share is bytes, or seconds where every device's bandwidth is known.
loose   shares proportional to each device's budget, so that every device keeps the same relative head-room.
manual  the placement is given, in the original's ranges of layers; nothing is cut here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glmcore.plan.devices import Device

# Cost of pieces[first:last] on device number d in bytes; the pieces of a device are a contiguous run.
Cost = Callable[[int, int, int], int]
Cuts = tuple[int, ...]  # device d holds pieces[cuts[d]:cuts[d + 1]]

STRATEGIES = ("greedy", "equal", "loose", "manual")
# The numbers by which hexaflake's runtime calls its strategies; what they mean there is not public.
NUMBERED = {"0": "greedy", "1": "equal", "2": "loose"}


def greedy(count: int, devices: Sequence[Device], cost: Cost) -> Cuts | None:
    """The longest run that fits on each device in turn; None where pieces are left over.

    A longer run on an earlier device never makes the rest harder to place, so this finds a fit wherever one exists.
    """
    cuts = [0]
    for number, device in enumerate(devices):
        last = cuts[-1]
        while last < count and cost(cuts[-1], last + 1, number) <= device.budget:
            last += 1
        cuts.append(last)
    return tuple(cuts) if cuts[-1] == count else None


def smallest_largest(count: int, devices: Sequence[Device], cost: Cost, weights: Sequence[float]) -> Cuts | None:
    """The cuts whose largest cost/weight is smallest, each device within its budget: exact, by dynamic programming.

    Among equals the plan with the more even rest wins, since later devices are settled first.
    """
    unreachable = float("inf")
    best: list[dict[int, tuple[float, int]]] = [{} for _ in devices]  # best[d][first]: (largest share, end of d's run)

    def settle(number: int, first: int) -> float:
        if number == len(devices):
            return 0.0 if first == count else unreachable
        if first not in best[number]:
            best[number][first] = min(options(number, first), default=(unreachable, first))
        return best[number][first][0]

    def options(number: int, first: int) -> list[tuple[float, int]]:
        found = []
        for last in range(first, count + 1):
            size = cost(first, last, number)
            if size > devices[number].budget:
                break
            found.append((max(size / weights[number], settle(number + 1, last)), last))
        return found

    if settle(0, 0) == unreachable:
        return None
    cuts = [0]
    for number in range(len(devices)):
        cuts.append(best[number][cuts[-1]][1])
    return tuple(cuts)


def cut(strategy: str, count: int, devices: Sequence[Device], cost: Cost) -> Cuts | None:
    """The cuts of the named strategy, or None where the model does not fit."""
    if strategy == "greedy":
        return greedy(count, devices, cost)
    if strategy == "loose":
        return smallest_largest(count, devices, cost, [float(device.budget) for device in devices])
    known = [device.bandwidth for device in devices if device.bandwidth]
    weights = known if len(known) == len(devices) else [1.0] * len(devices)
    return smallest_largest(count, devices, cost, weights)
