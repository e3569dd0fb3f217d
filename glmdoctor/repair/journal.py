"""What the repairs did, in append-only files of JSON lines, one file a run; ``run`` says what the records tell.

A file that lost its last records looks like one of a run that was killed before them. So the checksum of the last one
stands in a file of its own besides, written after it: a journal without that record has lost its end.
"""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count

from glmcore.folders import user_folder
from glmdoctor.actions import Action, Changes, missing_folders
from glmdoctor.actions.disk import ABSENT, Disk, Node
from glmdoctor.messages import Text, text
from glmdoctor.repair import chain
from glmdoctor.repair.records import action_to_json, change_to_json
from glmdoctor.repair.run import FORMAT, Newer, Nothing, Run, follow

ENDING = ".jsonl"
LAST = ".last"  # of the file with the last checksum
SUM_BYTES = 64
PRIVATE_MODE = 0o700  # of the folders of the journal


class Damaged(Exception):
    """A run's file that cannot be followed: ``path`` names it, ``why`` is for the user.

    ``known`` is the run as far as its file could be read, for a person to go by.
    """

    def __init__(self, path: str, why: Text, known: Run, *, newer: bool = False) -> None:
        super().__init__(f"{path}: {why}")
        self.path, self.why, self.known, self.newer = path, why, known, newer


class Cut(Exception):
    """A journal without the record that was written last."""


class NoHome(Exception):
    """There is no folder in which this user's state could lie."""


def state_folder() -> str:
    """Where the journal of this user lies. Raises ``NoHome`` where it has no place."""
    folder = user_folder("state", "glmdoctor")
    if folder is None:
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
        """Oldest first. What is no journal of this user's, or gone, is named too: ``read`` tells of the damage."""
        stems = (name.removesuffix(end) for name in self.disk.names(self.folder) for end in (ENDING, LAST)
                 if name.endswith(end))  # fmt: skip
        return sorted(set(stems))

    def read(self, run: str) -> Run:
        """The run's file. Raises ``Damaged`` where it is anything else than what was written there."""
        path, found = self._path(run), Run(run)
        try:
            content = self.disk.read(path, chain.LIMIT)
            if not self.disk.is_mine(path):  # root must not follow it
                raise Damaged(path, text("others could have changed it"), found)
            follow(found, content)
            self._insist_on_the_end(found)
        except Newer:
            raise Damaged(path, text("a newer glmdoctor wrote it"), found, newer=True) from None
        except Nothing:
            raise Damaged(path, text("it names nothing that was done"), found) from None
        except Cut:
            raise Damaged(path, text("its end is lost"), found) from None
        except OSError as error:
            raise Damaged(path, text("it cannot be read: {what}", what=error.strerror or str(error)), found) from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(path, text("it does not hold what was written there"), found) from error
        return found

    def _insist_on_the_end(self, run: Run) -> None:
        try:
            noted = self.disk.read(_last(self._path(run.id)), SUM_BYTES).decode("ascii", "replace")
        except FileNotFoundError:
            return
        if noted and noted not in run.sums:  # it is empty where a kill came before the first checksum
            raise Cut

    def runs(self) -> list[Run]:
        """All that can be read."""
        return [each for each in self._every() if isinstance(each, Run)]

    def damaged(self) -> list[Damaged]:
        return [each for each in self._every() if isinstance(each, Damaged)]

    def _every(self) -> list[Run | Damaged]:
        found: list[Run | Damaged] = []
        for run in self.ids():
            try:
                found.append(self.read(run))
            except Damaged as damaged:
                found.append(damaged)
        return found

    def put_aside(self, path: str) -> str:
        """Give what is there of a damaged journal a name that is no run's; the name. What it holds is kept."""
        there = [name for name in (_last(path), path) if not self.disk.holds(name, ABSENT)]
        for name in there:
            places = (name + ".damaged" + (f"-{number}" if number > 1 else "") for number in count(1))
            place = next(free for free in places if self.disk.holds(free, ABSENT))
            self.disk.rename(name, place)
        return place

    def aside(self, run: str) -> list[str]:
        """The names under which damaged files of a run lie."""
        starts = tuple(run + ending + ".damaged" for ending in (LAST, ENDING))
        found = [name for name in self.disk.names(self.folder) if name.startswith(starts)]
        return [posixpath.join(self.folder, name) for name in sorted(found, key=lambda name: ENDING in name)]

    def writer(self, run: str) -> Writer:
        """For a new run."""
        return Writer(self.disk, self._path(run), run)

    def resumed(self, run: Run) -> Writer:
        """For one that was read."""
        return Writer(self.disk, self._path(run.id), run.last)

    def make(self) -> None:
        """Make the folder; it is the doctor's own and no part of a repair."""
        for folder in missing_folders(self._path(""), self.disk):
            self.disk.make_folder(folder, PRIVATE_MODE)
        self.disk.insist_on_ours(self.folder)

    def _path(self, run: str) -> str:
        return posixpath.join(self.folder, run + ENDING)


class Writer:
    """Appends to the file of one run; each line is on the disk when the call returns."""

    def __init__(self, disk: Disk, path: str, last: str | None) -> None:
        self.disk, self.path, self.last = disk, path, last
        self.written = 0

    def begin(self, run: str, plan: str, found: Mapping[str, Node]) -> None:
        """The run and its first plan, in one: a run that names no plan is a sign of damage."""
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        head = {"record": "run", "format": FORMAT, "run": run, "created": created}
        self._write(head, _plan(plan, found))
        self.disk.sync_folder(posixpath.dirname(self.path))

    def plan(self, plan: str, found: Mapping[str, Node]) -> None:
        """How every path is that the plan names, before its first step."""
        self._write(_plan(plan, found))

    def intent(self, number: int, plan: str, action: Action, changes: Changes) -> None:
        """Write down what is about to be done. Raises OSError where the journal has grown too long for it."""
        if self.written > chain.LIMIT // 2:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.path)
        found = {path: change_to_json(change) for path, change in changes.items()}
        action_data = action_to_json(action)
        self._write({"record": "intent", "step": number, "plan": plan, "action": action_data, "changes": found})

    def done(self, number: int, after: Mapping[str, Node]) -> None:
        self._write({"record": "done", "step": number, "after": {path: asdict(node) for path, node in after.items()}})

    def undone(self, number: int) -> None:
        self._write({"record": "undone", "step": number})

    def end(self, how: str) -> None:
        self._write({"record": how})

    def _write(self, *records: Mapping[str, object]) -> None:
        last, data = self.last, b""
        for record in records:
            line, last = chain.line(record, last)
            # The line break before a record ends a line that a crash may have cut.
            data += b"\n" + line + b"\n"
        self.disk.append(self.path, data)
        if last is not None:
            self.disk.overwrite(_last(self.path), last.encode())
        self.last, self.written = last, self.written + len(data)


def _last(path: str) -> str:
    return path.removesuffix(ENDING) + LAST


def _plan(plan: str, found: Mapping[str, Node]) -> Mapping[str, object]:
    return {"record": "plan", "plan": plan, "found": {path: asdict(node) for path, node in found.items()}}
