"""What the repairs did, in append-only files of JSON lines, one file a run.

An ``intent`` holds everything that the way back needs and is on the disk before its action begins; ``done`` follows the
action, ``undone`` its inverse. A run ends as ``finished`` (it can be undone) or ``closed`` (everything was taken back).
A file that ends otherwise is a run that was killed: its steps are taken back by the next ``fix`` or ``undo``, because
nobody has checked a repair of which only a part was done. A last line that was cut belongs to an act that never began.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import platformdirs

from glmdoctor.actions import (
    Action,
    Changes,
    action_from_json,
    action_to_json,
    change_from_json,
    change_to_json,
    missing_folders,
)
from glmdoctor.disk import Disk, Node

FORMAT = 1
PRIVATE_MODE = 0o700  # of the folders of the journal


class Damaged(Exception):
    """A run's file holds something that no glmdoctor wrote; ``path`` names it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class NoHome(Exception):
    """There is no folder in which this user's state could lie."""


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
    end: str = ""  # "", "finished" or "closed"

    @property
    def standing(self) -> list[Step]:
        """The steps whose changes are (or may be) in place."""
        return [step for step in self.steps if not step.undone]


def state_folder() -> str:
    """Where the journal of this user lies."""
    try:
        folder = platformdirs.user_state_dir("glmdoctor", appauthor=False)
    except RuntimeError as error:  # as platformdirs 4.4 and later have it; before that the path was relative
        raise NoHome from error
    if not os.path.isabs(folder):
        raise NoHome
    return folder


def new_id() -> str:
    """Sorts by time; the tail keeps two runs of one second apart."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(2)


class Store:
    """All runs of one user on one machine."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self.disk, self.folder = disk, posixpath.join(folder, "runs")

    def ids(self) -> list[str]:
        """Oldest first; only this user's own: under sudo, root must not restore what somebody else wrote down."""
        names = [name for name in self.disk.names(self.folder) if name.endswith(".jsonl")]
        return [run for run in (name.removesuffix(".jsonl") for name in names) if self.disk.is_mine(self._path(run))]

    def read(self, run: str) -> Run:
        content = self.disk.read(self._path(run)).decode("utf-8", "replace")
        try:
            return parse(run, content)
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise Damaged(self._path(run)) from error

    def runs(self) -> list[Run]:
        return [self.read(run) for run in self.ids()]

    def writer(self, run: str) -> Writer:
        return Writer(self.disk, self._path(run))

    def make(self) -> None:
        """Make the folder; it is the doctor's own and no part of a repair."""
        for folder in missing_folders(self._path(""), self.disk):
            self.disk.make_folder(folder, PRIVATE_MODE)

    def _path(self, run: str) -> str:
        return posixpath.join(self.folder, run + ".jsonl")


class Writer:
    """Appends to the file of one run; each line is on the disk when the call returns."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.disk, self.path = disk, path

    def begin(self, run: str) -> None:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write(record="run", format=FORMAT, run=run, created=created)
        self.disk.sync_folder(posixpath.dirname(self.path))

    def intent(self, number: int, plan: str, action: Action, changes: Changes) -> None:
        found = {path: change_to_json(change) for path, change in changes.items()}
        self._write(record="intent", step=number, plan=plan, action=action_to_json(action), changes=found)

    def done(self, number: int, after: Mapping[str, Node]) -> None:
        self._write(record="done", step=number, after={path: asdict(node) for path, node in after.items()})

    def undone(self, number: int) -> None:
        self._write(record="undone", step=number)

    def end(self, how: str) -> None:
        self._write(record=how)

    def _write(self, **record: object) -> None:
        # The line break before a record ends a line that a crash may have cut.
        self.disk.append(self.path, b"\n" + json.dumps(record, sort_keys=True).encode() + b"\n")


def parse(run: str, content: str) -> Run:
    """The run that the lines tell of; lines that were cut are passed over."""
    result = Run(run)
    steps: dict[int, Step] = {}
    for line in content.splitlines():
        record = _record(line)
        kind = record.get("record")
        if kind == "run":
            result.created = str(record["created"])
        elif kind == "intent":
            step = _step(record)
            steps[step.number] = step
        elif kind == "done":
            after = record["after"]
            assert isinstance(after, Mapping)
            steps[_number(record)].after = {path: Node(**node) for path, node in after.items()}
        elif kind == "undone":
            steps[_number(record)].undone = True
        elif kind in ("finished", "closed"):
            result.end = str(kind)
    result.steps = list(steps.values())
    return result


def _record(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(record: Mapping[str, object]) -> int:
    number = record["step"]
    assert isinstance(number, int)
    return number


def _step(record: Mapping[str, object]) -> Step:
    action, changes = record["action"], record["changes"]
    assert isinstance(action, Mapping) and isinstance(changes, Mapping)
    found = {path: change_from_json(change) for path, change in changes.items()}
    return Step(_number(record), str(record["plan"]), action_from_json(action), found)
