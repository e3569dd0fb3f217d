"""One run of repairs, as the records of its journal tell of it.

A ``plan`` says how every path was that it names; an ``intent`` holds everything that the way back needs and is on the
disk before its action begins; ``done`` follows the action, ``undone`` its inverse. A run ends as ``finished`` (it can
be undone) or ``closed`` (everything was taken back). A file that ends otherwise is a run that was killed: its steps are
taken back by the next ``fix`` or ``undo``, because nobody has checked a repair of which only a part was done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glmdoctor.actions import Action, Changes
from glmdoctor.actions.disk import Node
from glmdoctor.repair import chain
from glmdoctor.repair.records import action_from_json, change_from_json, node_from_json

FORMAT = 2  # 1 had no checksums and no plans


class Newer(Exception):
    """A journal of a format that came after this one."""


class Nothing(Exception):
    """A journal without a plan or a step: its repair was killed before it began, or the rest of it is lost."""


@dataclass
class Step:
    """One action of a run, and how far it came."""

    number: int
    plan: str
    action: Action
    changes: Changes
    after: Mapping[str, Node] | None = None  # None: it never reported to be done
    undone: bool = False


@dataclass
class Run:
    id: str
    created: str = ""
    steps: list[Step] = field(default_factory=list)
    planned: dict[str, Node] = field(default_factory=dict)  # how each path was that the plans name
    end: str = ""  # "", "finished" or "closed"
    sums: list[str] = field(default_factory=list)  # the checksum of each record; none in format 1

    @property
    def last(self) -> str | None:
        """The checksum that the next record goes on from."""
        return self.sums[-1] if self.sums else None

    @property
    def standing(self) -> list[Step]:
        """The steps whose changes are (or may be) in place."""
        return [step for step in self.steps if not step.undone]


def follow(run: Run, content: bytes) -> None:
    """Add to ``run`` what the lines tell of it, up to the first that is not what was written there.

    Raises ValueError, LookupError, TypeError or AttributeError there; ``Newer`` and ``Nothing`` as these say.
    """
    for record, last in chain.records(content, seed=run.id):
        kind = record.get("record")
        if (kind == "run") != (run.created == "") or run.end == "closed":
            raise ValueError("records out of their order")
        if kind == "run":
            run.created = _created(record, run.id)
        elif kind == "plan":
            found = {path: node_from_json(node) for path, node in record["found"].items()}
            run.planned = {**found, **run.planned}  # what an earlier plan found was there first
        elif kind == "intent":
            run.steps.append(_step(record, run.steps[-1].number if run.steps else 0))
        elif kind == "done":
            after = {path: node_from_json(node) for path, node in record["after"].items()}
            _of(run, record["step"]).after = after
        elif kind == "undone":
            _of(run, record["step"]).undone = True
        elif kind in ("finished", "closed"):
            run.end = kind
        else:
            raise ValueError("a record of no kind")
        run.sums += [last] if last else []
    if not run.steps and not run.planned and not run.end:
        raise Nothing


def _of(run: Run, number: int) -> Step:
    found = [step for step in run.steps if step.number == number]
    return found[0]


def _created(record: Mapping[str, Any], run: str) -> str:
    number = record["format"]
    if isinstance(number, int) and number > FORMAT:
        raise Newer
    if record["run"] != run or not record["created"]:
        raise ValueError("another run's")
    return str(record["created"])


def _step(record: Mapping[str, Any], former: int) -> Step:
    number, action = record["step"], action_from_json(record["action"])
    if not isinstance(number, int) or number <= former:
        raise ValueError("steps out of their order")
    changes = {path: change_from_json(path, change) for path, change in record["changes"].items()}
    if set(changes) != set(action.paths):
        raise ValueError("a step whose paths are not its action's")
    return Step(number, str(record["plan"]), action, changes)
