"""Carries plans out: one lock, the question, the journal, the actions, and the check again.

Only what a plan printed is done. An action that meets another state than the plan saw, or that fails, takes its whole
plan back.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count

import filelock

from glmdoctor.actions import Action, Changes, MakeFolder, PlaceLink, WriteFile, change_of, missing_folders
from glmdoctor.actions.disk import Disk
from glmdoctor.messages import Text, text
from glmdoctor.remedies import Plan
from glmdoctor.repair.journal import Store, Writer
from glmdoctor.repair.recovery import Refused, sync_around, take_back
from glmdoctor.repair.run import Step


class Outcome(str, Enum):
    REPAIRED = "repaired"  # its own check passes again
    NOT_REPAIRED = "not-repaired"  # done, but the check still complains
    FAILED = "failed"  # could not be done; nothing of it is left
    DECLINED = "declined"


@dataclass(frozen=True)
class Prepared:
    """A plan bound to the state of the disk: the steps that are left to do, and what they will find."""

    plan: Plan
    steps: tuple[tuple[Action, Changes], ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that the plan may touch, kept files included."""
        changes = [item for _, found in self.steps for item in found.items()]
        return tuple(name for path, change in changes for name in (path, change.kept) if name)


Confirm = Callable[[Prepared], bool]


@dataclass(frozen=True)
class Result:
    prepared: Prepared
    outcome: Outcome
    reason: Text | None = None
    left: tuple[Text, ...] = ()  # what of a plan that was not done could not be taken back


@contextmanager
def locked(disk: Disk, state: str) -> Iterator[Store]:
    """The journal, for this process alone."""
    store = Store(disk, state)
    store.make()
    lock = filelock.FileLock(disk.real(posixpath.join(state, "lock")), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise Refused(text("another glmdoctor is repairing this machine; try again when it has ended")) from None
    try:
        yield store
    finally:
        lock.release()


def prepare(plans: Iterable[Plan], disk: Disk, name: str) -> tuple[Prepared, ...]:
    """Bind plans to what the disk holds now; steps that are done already fall away, missing folders are added.

    ``name`` tells the temporary and kept names of these plans from all others.
    """
    numbers = count(1)
    return tuple(Prepared(plan, tuple(_steps(plan, disk, name, numbers))) for plan in plans)


def _steps(plan: Plan, disk: Disk, name: str, numbers: Iterator[int]) -> Iterator[tuple[Action, Changes]]:
    made: set[str] = set()
    for action in dict.fromkeys(_canonical(action, disk) for action in plan.actions):
        folders = [folder for path in action.paths for folder in missing_folders(path, disk) if folder not in made]
        for wanted in (*map(MakeFolder, folders), action):
            made.update(wanted.paths if isinstance(wanted, MakeFolder) else ())
            changes = {path: change_of(path, disk, name, next(numbers)) for path in wanted.paths}
            if not wanted.satisfied({path: change.before for path, change in changes.items()}):
                yield wanted, changes


def _canonical(action: Action, disk: Disk) -> Action:
    """The same action with the links of its folders followed, so that the plan names what is really touched.

    A link to a neighbour gets the bare name, as packages do it.
    """
    if isinstance(action, PlaceLink):
        path, target = disk.canonical(action.path), disk.canonical(action.target)
        neighbour = posixpath.dirname(path) == posixpath.dirname(target)
        return PlaceLink(path, posixpath.basename(target) if neighbour else action.target)
    if isinstance(action, WriteFile):
        return replace(action, path=disk.canonical(action.path))
    return action


class Treatment:
    """One run of the journal: plans are carried out in it one by one, and the run is closed at the end."""

    def __init__(self, store: Store, run: str) -> None:
        self.store, self.disk, self.run = store, store.disk, run
        self.touched: set[str] = set()
        self.writer: Writer | None = None
        self.number = 0
        self.standing: list[Step] = []
        self.half_done = self.announced = False

    def __enter__(self) -> Treatment:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the journal; a plan that could not even be taken back leaves it open for the next run's recovery."""
        if self.writer and not self.half_done:
            self.writer.end("finished" if self.standing else "closed")

    def carry_out(self, prepared: Prepared, confirm: Confirm, holds: Callable[[Plan], bool]) -> Result:
        """Do a plan that ``confirm`` allows, and judge it by ``holds``: its own check asked again."""
        if prepared.steps and not confirm(prepared):
            return Result(prepared, Outcome.DECLINED)
        try:
            self._do(prepared)
        except Refused as refused:
            return Result(prepared, Outcome.FAILED, refused.reason, refused.more)
        return Result(prepared, Outcome.REPAIRED if holds(prepared.plan) else Outcome.NOT_REPAIRED)

    def _do(self, prepared: Prepared) -> None:
        """All steps of a plan, or none."""
        first, self.half_done = len(self.standing), True
        try:
            self.announced = False
            for action, changes in prepared.steps:
                self._step(prepared, action, changes)
            self.half_done = False
        except OSError as error:
            left = self._take_back(first)
            what = _told(error) if left else text("{what}; nothing of it is left", what=_told(error))
            raise Refused(what, *left) from error
        except Refused as refused:
            raise Refused(refused.reason, *refused.more, *self._take_back(first)) from refused
        except BaseException:
            self._take_back(first)
            raise

    def _step(self, prepared: Prepared, action: Action, changes: Changes) -> None:
        before = {path: self.disk.node(path) for path in action.paths}
        if self.touched.issuperset(action.paths) and action.satisfied(before):
            return
        changed = [path for path, change in changes.items() if not before[path].same(change.before)]
        if changed:
            raise Refused(text("{path} has changed since the plan was made", path=changed[0]))
        obstacle = action.obstacle(before, self.disk)
        if obstacle:
            raise Refused(obstacle)
        writer, plan = self._announce(prepared), prepared.plan.id
        self.number += 1
        writer.intent(self.number, plan, action, changes)
        self.standing.append(Step(self.number, plan, action, changes))
        action.apply(self.disk, changes)
        sync_around(self.disk, action.paths)
        writer.done(self.number, {path: self.disk.node(path) for path in action.paths})
        self.touched.update(action.paths)

    def _announce(self, prepared: Prepared) -> Writer:
        """The journal, with the plan in it."""
        found = {path: change.before for _, changes in prepared.steps for path, change in changes.items()}
        if self.writer is None:
            writer = self.store.writer(self.run)
            writer.begin(self.run, prepared.plan.id, found)
            self.writer = writer
        elif not self.announced:
            self.writer.plan(prepared.plan.id, found)
        self.announced = True
        return self.writer

    def _take_back(self, first: int) -> list[Text]:
        """What of the steps from ``first`` on could not be taken back."""
        assert self.writer is not None or not self.standing[first:]
        left, failed = list[Text](), False
        for step in reversed(self.standing[first:]):
            back = take_back(self.disk, step)
            left += back.lost.values()
            failed |= back.failed
            if self.writer and not back.failed:
                self.writer.undone(step.number)
        del self.standing[first:]
        self.half_done = failed
        return left


def _told(error: OSError) -> Text:
    where = f"{error.filename}: " if error.filename else ""
    return Text("{what}", {"what": where + (error.strerror or str(error))})
