"""In which tensor two runs part, in the order of computation, and by how much."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glmcore.golden import reference
from glmcore.golden.dump import LAYERED, WHOLE, Stage, calls, invalid, kind_of, one_call, read_tensors, stages

SCHEMA_VERSION = 1
# Of float32 computed in another order, as tests/golden/README.md has it for logits.
TOLERANCE = 2e-4

Run = Callable[[], Iterator[Stage]]


@dataclass(frozen=True)
class Difference:
    """Where a tensor of two runs differs most. ``amount`` is None where that is no matter of numbers."""

    group: int
    row: int
    stage: str
    tensor: str
    amount: float | None = 0.0
    index: tuple[int, ...] = ()
    left: float | None = None
    right: float | None = None
    why: str = ""

    def __str__(self) -> str:
        group = f"group {self.group}, " if self.group else ""
        place = f"{group}row {self.row}, {self.stage}, {self.tensor}"
        if self.why:
            return f"{place}: {self.why}"
        return f"{place}: {self.amount:.3g} at {list(self.index)}, {self.left:.6g} against {self.right:.6g}"


@dataclass
class Comparison:
    """``first``: where they part, None where they do not; ``largest``: where they differ most without parting.

    ``left_out``: kinds of tensors that one of the two alone has, and which.
    """

    tolerance: float
    stages: int = 0
    tensors: int = 0
    first: Difference | None = None
    largest: Difference | None = None
    left_out: dict[str, str] | None = None

    @property
    def equal(self) -> bool:
        return self.first is None

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "equal": self.equal, **asdict(self)}

    def text(self) -> str:
        over = f"{self.tensors} tensors of {self.stages} steps"
        if self.first is not None:
            lines = [f"they part at {self.first}", f"{over} before it agree within {self.tolerance:g}"]
        else:
            lines = [f"equal: {over} agree within {self.tolerance:g}"]
        if self.largest is not None and self.largest.amount:
            lines.append(f"largest difference among these: {self.largest}")
        lines += [f"{kind}: in the {side} dump alone" for kind, side in (self.left_out or {}).items()]
        return "\n".join(lines)


def compare_dumps(left: str | Path, right: str | Path, tolerance: float = TOLERANCE) -> Comparison:
    """Compare two dumps, or one with a run of the original code. Errors: GlmError("dump-invalid")."""
    pairs = list(product(_runs(Path(left)), _runs(Path(right))))
    chosen = next((pair for pair in pairs if _prompt(pair[0]) == _prompt(pair[1])), pairs[0])
    return compare(chosen[0](), chosen[1](), tolerance)


def _runs(path: Path) -> list[Run]:
    """What lies at ``path``: a dump or an engine's reference call is one run, the original code's file has several."""
    folder = os.path.isdir(path)
    if folder and calls(path):
        return [partial(stages, path)]
    file = path / reference.FILE if folder else path
    if not os.path.lexists(file):
        what = f"neither calls of an engine nor {reference.FILE} lie there" if folder else "it does not exist"
        raise invalid(path, what)
    tensors = read_tensors(file)
    found = [one_call(file, tensors)] if "ids" in tensors else reference.runs(file, tensors)
    return [partial(iter, run) for run in found]


def _prompt(run: Run) -> list[list[int]]:
    return [row["ids"].tolist() for row in next(run()).rows]


def compare(left: Iterable[Stage], right: Iterable[Stage], tolerance: float = TOLERANCE) -> Comparison:
    """Go along both until a tensor differs by more than ``tolerance`` (absolute; ids and positions must be equal)."""
    found = Comparison(tolerance)
    for a, b in zip_longest(left, right):
        if a is None or b is None or (a.group, a.name, len(a.rows)) != (b.group, b.name, len(b.rows)):
            found.first = _unlike(a, b)
            return found
        if found.left_out is None:
            found.left_out = _left_out(a, b)
        for difference in _differences(a, b):
            if difference.amount is None or not difference.amount <= (0 if difference.tensor in WHOLE else tolerance):
                found.first = difference
                return found
            found.tensors += 1
            if found.largest is None or difference.amount > (found.largest.amount or 0):
                found.largest = difference
        found.stages += 1
    return found


def _unlike(a: Stage | None, b: Stage | None) -> Difference:
    """Two stages that are not the same one: a run is longer, or has more rows."""
    place = a or b
    assert place is not None
    if a is None or b is None:
        why = f"the {'right' if a is None else 'left'} dump goes on, the other has ended"
    elif (a.group, a.name) != (b.group, b.name):
        why = f"the left dump is at {a.name} of group {a.group}, the right at {b.name} of group {b.group}"
    else:
        why = f"{len(a.rows)} rows against {len(b.rows)}"
    return Difference(place.group, 0, place.name, "ids", None, why=why)


def _left_out(a: Stage, b: Stage) -> dict[str, str]:
    ours, theirs = ({kind_of(name) for row in stage.rows for name in row} for stage in (a, b))
    return {kind: "left" if kind in ours else "right" for kind in sorted(ours ^ theirs)}


def _differences(a: Stage, b: Stage) -> Iterator[Difference]:
    """The largest difference of each tensor of a kind that both stages tell of, in the order of computation."""
    for name in _shared(a, b):
        for number, (left, right) in enumerate(zip(a.rows, b.rows, strict=True)):
            place = (a.group, number, a.name, name)
            if (name in left) != (name in right):
                yield Difference(*place, None, why=f"in the {'left' if name in left else 'right'} dump alone")
            elif name in left and left[name].shape != right[name].shape:
                why = f"shape {list(left[name].shape)} against {list(right[name].shape)}"
                yield Difference(*place, None, why=why)
            elif name in left and left[name].numel():
                yield _largest(place, left[name], right[name])


def _shared(a: Stage, b: Stage) -> list[str]:
    """Names of the kinds that both have, in the order of computation: rows are computed side by side."""
    ours, theirs = ({name for row in stage.rows for name in row} for stage in (a, b))
    kinds = {kind_of(name) for name in ours} & {kind_of(name) for name in theirs}
    return sorted((name for name in ours | theirs if kind_of(name) in kinds), key=_turn)


def _turn(name: str) -> tuple[int, int, str]:
    """What is computed first comes first: the inputs, layer by layer its cache and its output, the logits."""
    if match := LAYERED.fullmatch(name):
        return 2, int(match["layer"]), {"key": "0", "value": "1", "out": "2"}[match["kind"]]
    return {"ids": 0, "positions": 1}.get(name, 3), 0, name


def _largest(place: tuple[int, int, str, str], left: Tensor, right: Tensor) -> Difference:
    """The largest absolute difference; what is no number counts as the largest."""
    a, b = left.double(), right.double()
    apart = (a - b).abs().nan_to_num(nan=torch.inf)
    at = int(apart.argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), apart.shape))
    one, other = float(a[index]), float(b[index])
    if not apart[index].isfinite():
        return Difference(*place, None, index, why=f"{one:g} against {other:g} at {list(index)}")
    return Difference(*place, float(apart[index]), index, one, other)
