"""How many layers a machine could hold, and how long a token would be with them.

All layers of a model are equally large, so what ``strategies.greedy`` gives for a run of them is computed by division.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from glmcore.plan.cluster.nodes import Node, speed
from glmcore.plan.devices import Device
from glmcore.plan.shares import Load

FLOAT_BYTES = 4  # of a value of a hidden state on its way between machines


@dataclass(frozen=True)
class Role:
    """Whether a stage has the model's first layer, and whether it has the last."""

    first: bool
    last: bool


ALONE, FIRST, MIDDLE, LAST = Role(True, True), Role(True, False), Role(False, False), Role(False, True)


@dataclass(frozen=True)
class Filled:
    """How many layers lie on each device, on which the embedding, and on which the pieces behind the layers."""

    layers: tuple[int, ...]
    table: int
    after: tuple[int, ...]


@dataclass(frozen=True)
class Offer:
    """What a machine would take for ``least`` layers and more: runs of layers with the seconds that each of them takes,
    the fastest first, and ``fixed`` seconds for the head."""

    least: int
    runs: tuple[tuple[float, int], ...]
    fixed: float

    @property
    def most(self) -> int:
        return sum(count for _, count in self.runs)


class Sizes:
    """The bytes of a model's parts on a kind of device: of a layer with its cache, of the ends, and for passes."""

    def __init__(self, load: Load, device: Device) -> None:
        chain = load.chain(device)
        self.embedding, self.layer = load.size(chain[0]), load.size(chain[1])
        self.after = [load.size(piece) for piece in chain[load.config.num_layers + 1 :]]
        self.workspace = load.workspace(device)


class Host:
    """A machine and one model. ``fill`` is what all else here follows from."""

    def __init__(self, node: Node, load: Load, kinds: dict[str, Sizes]) -> None:
        self.node, self.layers, self.tied = node, load.config.num_layers, load.config.tie_embeddings
        for device in node.devices:
            kind = device.name.partition(":")[0]
            if kind not in kinds:
                kinds[kind] = Sizes(load, device)
        pairs = [(device, kinds[device.name.partition(":")[0]]) for device in node.devices]
        self.pairs = sorted(pairs, key=lambda pair: pair[1].layer / speed(pair[0]))  # the fastest first
        self._seconds = [size.layer / speed(device) for device, size in self.pairs]
        # Of a hidden state over this machine's link.
        self.carrying = load.config.hidden_size * FLOAT_BYTES / node.link.bandwidth
        self._offers: dict[Role, tuple[Offer, ...]] = {}

    @property
    def devices(self) -> list[Device]:
        """In the order in which they are filled."""
        return [device for device, _ in self.pairs]

    @property
    def reaching(self) -> float:
        """Seconds of a hop of a hidden state between this machine and another one like it."""
        return self.node.link.latency + self.carrying

    @cached_property
    def capacity(self) -> int:
        """Layers that it could hold of the middle of a model."""
        return self.most(MIDDLE)

    def fill(self, count: int, role: Role) -> Filled | None:
        """What of ``count`` layers and of the model's ends lies where; None where they do not fit."""
        table = -1 if role.first or (role.last and self.tied) else 0  # -1: still to be placed
        found: list[int] = []
        after: list[int] = []
        left, ends = count, len(self.pairs[0][1].after) if role.last else 0
        for number, (device, size) in enumerate(self.pairs):
            room = device.budget - size.workspace - (size.embedding if table < 0 else 0)
            if room < 0:
                found.append(0)
                continue
            table = number if table < 0 else table
            taken = min(left, room // size.layer)
            left, room = left - taken, room - taken * size.layer
            found.append(taken)
            while not left and len(after) < ends and size.after[len(after)] <= room:
                room -= size.after[len(after)]
                after.append(number)
        whole = table >= 0 and not left and len(after) == ends
        return Filled(tuple(found), table, tuple(after)) if whole else None

    def most(self, role: Role) -> int:
        """The most layers that fit, up to all."""
        low, high = 0, self.layers
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fill(middle, role) else (low, middle - 1)
        return low

    def seconds(self, count: int, role: Role) -> float:
        """Of a token's reading of ``count`` layers, and of the head."""
        filled = self.fill(count, role)
        assert filled is not None
        return sum(s * n for s, n in zip(self._seconds, filled.layers, strict=True)) + self._head(filled)

    def _head(self, filled: Filled) -> float:
        """Seconds of reading what is behind the layers; a tied head is the embedding."""
        found = 0.0
        for part, number in enumerate(filled.after):
            device, size = self.pairs[number]
            found += size.after[part] / speed(device)
        if filled.after and self.tied:
            device, size = self.pairs[filled.table]
            found += size.embedding / speed(device)
        return found

    def offers(self, role: Role) -> tuple[Offer, ...]:
        """One for each place that the head may come to have; for a stage without it one."""
        if role not in self._offers:
            self._offers[role] = tuple(self._made(role))
        return self._offers[role]

    def _made(self, role: Role) -> list[Offer]:
        found = [self.fill(count, role) for count in range(1, self.most(role) + 1)]
        offers = []
        for _, alike in groupby(filter(None, found), key=lambda filled: (filled.table, filled.after)):
            least, *more = alike
            fullest = more[-1] if more else least
            runs = tuple((s, n) for s, n in zip(self._seconds, fullest.layers, strict=True) if n)
            offers.append(Offer(sum(least.layers), runs, self._head(least)))
        return offers
