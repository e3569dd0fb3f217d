"""What is known of each node and what is to be done about it: pure, told the time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# Seconds until a node that has nothing is looked at again: somebody may have run the fix there, or freed memory.
LOOK_AGAIN_S = 60.0
# Seconds that a node rests after its second failure in a row; twice as long after each further one, up to the last.
REST_S, LONGEST_REST_S = 1.0, 60.0


class State(str, Enum):
    """Where a node stands."""

    NEW = "new"  # nothing is known of it, or it failed: it is to be examined
    EXAMINING = "examining"
    FIT = "fit"  # could take a replica or a stage
    UNFIT = "unfit"  # the doctor, its versions or its files are against it
    STARTING = "starting"
    SERVING = "serving"
    GONE = "gone"  # Ray does not see it any more


@dataclass
class Entry:
    """One node. ``due``: when it may be examined, by the caller's clock."""

    name: str
    machine: str  # what tells that a node which joins is one that was there before
    state: State = State.NEW
    due: float = 0.0
    failures: int = 0  # since it last ended an answer
    restarts: int = 0
    why: str = ""  # it is unfit, or what became of it last


class Table:
    """Nodes by Ray's id. Each method is one thing that happened."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.losses = 0

    def seen(self, present: Iterable[tuple[str, str]]) -> list[str]:
        """Ids and machines that Ray sees now. Returns the ids of those that have gone since."""
        now = dict(present)
        gone = [id for id, entry in self.entries.items() if id not in now and entry.state is not State.GONE]
        for id in gone:
            self.entries[id].state = State.GONE
        for id, machine in now.items():
            if id not in self.entries:
                self.entries[id] = Entry(self._name(machine), machine)
            elif self.entries[id].state is State.GONE:
                self.entries[id].state = State.NEW
        return gone

    def _name(self, machine: str) -> str:
        """That of a node of the same machine which has gone, else the next number."""
        for id, entry in self.entries.items():
            if entry.state is State.GONE and entry.machine == machine:
                del self.entries[id]
                return entry.name
        taken = {entry.name for entry in self.entries.values()}
        return next(name for n in range(1, len(taken) + 2) if (name := f"node{n}") not in taken)

    def due(self, now: float) -> list[str]:
        """Those to be examined; they are under examination from now on."""
        idle = (State.NEW, State.FIT, State.UNFIT)
        due = [id for id, entry in self.entries.items() if entry.state in idle and entry.due <= now]
        for id in due:
            self.entries[id].state = State.EXAMINING
        return due

    def examined(self, id: str, now: float, against: str = "") -> None:
        """What the examination said: nothing ``against`` it, or why it gets nothing."""
        if self.there(id):
            entry = self.entries[id]
            entry.state = State.UNFIT if against else State.FIT
            entry.why = against or (entry.why if entry.failures else "")
            entry.due = now + LOOK_AGAIN_S

    @property
    def undecided(self) -> bool:
        """Whether a node's first examination, or the first start of what it is fit for, is still to come."""
        early = (State.NEW, State.EXAMINING, State.STARTING)
        return any(entry.state in early and not entry.failures for entry in self.entries.values())

    @property
    def fit(self) -> list[str]:
        return [id for id, entry in self.entries.items() if entry.state is State.FIT]

    def began(self, ids: Iterable[str]) -> None:
        """A replica is being started there."""
        for id in filter(self.there, ids):
            self.entries[id].state = State.STARTING

    def serving(self, ids: Iterable[str]) -> None:
        for id in filter(self.there, ids):
            self.entries[id].state = State.SERVING

    def served(self, ids: Iterable[str]) -> None:
        """An answer was made there: whatever failed before is forgiven."""
        for id in filter(self.there, ids):
            self.entries[id].failures = 0

    def lost(self, ids: Iterable[str], now: float, why: str) -> None:
        """What ran there has ended, or would not start: after a rest, if it is not the first time, it is looked at."""
        for id in filter(self.there, ids):
            entry = self.entries[id]
            rest = min(LONGEST_REST_S, REST_S * 2 ** (entry.failures - 1)) if entry.failures else 0.0
            entry.state, entry.why, entry.due = State.NEW, why, now + rest
            entry.failures += 1
            entry.restarts += 1
        self.losses += 1

    def there(self, id: str) -> bool:
        """Whether it is a node that Ray sees."""
        return id in self.entries and self.entries[id].state is not State.GONE
