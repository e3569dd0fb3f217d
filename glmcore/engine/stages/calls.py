"""What a leader asks of a stage, and what it hears: plain data that travels between processes and machines.

Arrays are numpy's. Hidden states are float32 [S, hidden size] whatever a stage computes in, which loses nothing; logits
are float32 [wanted, V]. A stage is asked for one thing at a time, in the order in which the leader asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glmcore.engine.sweeps import Stretch
from glmcore.engine.ways.way import Habits
from glmcore.errors import GlmError


@dataclass(frozen=True, eq=False)
class Work:
    """Tokens that go through the layers of every stage, one stage after the other.

    ids, rows, places: int64 [S], each token, its row of the cache and its place there; those of a row stand together.
    positions: int64 [1, S], ChatGLM-6B's [1, 2, S].
    """

    ids: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    positions: np.ndarray
    prompt: int = 0  # tokens of the whole prompt that these are a part of; 0: they are answers'
    context: int = 0  # tokens at the row's beginning that see each other both ways
    wanted: int = 0  # logits are wanted after so many of the last tokens
    stretches: tuple[Stretch, ...] = ()  # what one stage does of it now, layers counted in the whole model; else all
    number: int = -1  # under which it keeps them in between, until ``Drop``
    trial: bool = False  # for its time alone: the rows are not those of answers


@dataclass(frozen=True)
class Reshape:
    """Make ready what ``KVCache.reshape`` gives; ``Settle`` says whether it is to be used."""

    rows: int
    capacity: int
    kept: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Settle:
    """Whether all stages had the memory for the new shape: it is that of the rows from now on, or forgotten."""

    use: bool


@dataclass(frozen=True)
class Copy:
    """Let row ``target`` begin with the first ``count`` tokens of row ``source``."""

    source: int
    target: int
    count: int


@dataclass(frozen=True)
class Take:
    """Keep the first ``count`` tokens of a row apart, under a number that the leader chose."""

    number: int
    row: int
    count: int


@dataclass(frozen=True)
class Put:
    """Let a row begin with the first ``count`` tokens of what was taken."""

    number: int
    row: int
    count: int


@dataclass(frozen=True)
class Drop:
    """Forget what was taken, or is on its way, under these numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Forget:
    """Begin anew: a cache of one row, and nothing apart."""

    capacity: int


@dataclass(frozen=True)
class Describe:
    """Answered by ``Facts``."""


@dataclass(frozen=True)
class Facts:
    """What a stage says of itself."""

    name: str
    first: int  # its layers, counted in the whole model: from this one
    last: int  # to before this one
    layers: int  # of the whole model
    model: str
    generation: str
    bits: int  # to which its layers are quantised; 0: they are not
    devices: dict[str, list[int]]  # its layers by their devices
    backend: str
    habits: Habits
    interruptible: bool  # whether every prompt goes through the kernel, which can stop within a layer
    weights_bytes: int
    row_bytes: int  # of a token's keys and values
    room: int  # tokens that all rows may have together


@dataclass(frozen=True)
class Holdings:
    """What a stage holds for its leader."""

    rows: int
    capacity: int
    taken: int  # what was taken and not dropped


@dataclass(frozen=True)
class Report:
    """Answered by ``Holdings``."""


@dataclass(frozen=True)
class Failed:
    """What went wrong, in the parts of a ``GlmError``. The stages behind pass it on."""

    code: str
    what: str
    where: str
    hint: str

    def error(self) -> GlmError:
        return GlmError(self.code, self.what, where=self.where, hint=self.hint)


Call = Work | Reshape | Settle | Copy | Take | Put | Drop | Forget | Describe | Report
Answered = np.ndarray | Facts | Holdings | Failed | None
