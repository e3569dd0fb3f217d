"""The way back: runs that were killed are rolled back, finished ones undone when asked; nobody else's work is lost."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from glmdoctor.actions import LINKER_CACHE, LINKER_SCRATCH, Inverse
from glmdoctor.actions.disk import Disk
from glmdoctor.messages import Text, text
from glmdoctor.repair.journal import Damaged, Store
from glmdoctor.repair.run import Run, Step

REBUILT = {LINKER_CACHE, LINKER_SCRATCH}  # by anybody's ldconfig, at any time


class Refused(Exception):
    """Something that must not be done now; ``reason`` is for the user, ``more`` are further ones."""

    def __init__(self, reason: Text, *more: Text) -> None:
        super().__init__("\n".join(str(each) for each in (reason, *more)))
        self.reason, self.more = reason, more


@dataclass(frozen=True)
class Undone:
    """A run that was taken back: what is as before, and what is not."""

    run: str
    restored: tuple[str, ...]
    stay: tuple[str, ...]  # as it is: folders that others use by now, a cache that was rebuilt since
    lost: Mapping[str, Text]  # path → why it is not as before


@dataclass
class Back:
    """What became of one step's way back; ``failed``: it may yet be done, and stands."""

    stay: list[str] = field(default_factory=list)
    lost: dict[str, Text] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class Aside:
    """A journal that cannot be followed, and the name that it has now; None where it keeps its own."""

    damaged: Damaged
    place: str | None


def put_aside(store: Store) -> list[Aside]:
    """Give every damaged journal a name that is no run's; one that a newer glmdoctor wrote stays."""
    return [_put_aside(store, damaged) for damaged in store.damaged()]


def _put_aside(store: Store, damaged: Damaged) -> Aside:
    try:
        return Aside(damaged, None if damaged.newer else store.put_aside(damaged.path))
    except OSError:  # a folder that may not be written to; it is said again by every run
        return Aside(damaged, None)


def recover(store: Store) -> list[Undone]:
    """Roll back every run that was killed, the newest first."""
    return [_take_back_run(store, run) for run in reversed(store.runs()) if not run.end]


def undo(store: Store, wanted: str | None = None) -> Undone | None:
    """Take back the run named (the latest by default); None where there is nothing to take back.

    Raises ``Refused``, before anything is touched, where others changed what the run left, or what it kept. Only the
    linker cache may have been rebuilt since: it is made from what is there, and stays.
    """
    runs = [run for run in store.runs() if run.end == "finished" and wanted in (None, run.id)]
    if not runs:
        return None
    run = runs[-1]
    foreign = foreign_changes(store.disk, run)
    changed = [path for path, step in foreign.items() if not step.action.derived]
    reasons = [text("{path} has been changed by others since run {run}", path=path, run=run.id) for path in changed]
    reasons += _losses(store.disk, run, changed)
    if reasons:
        raise Refused(*reasons, text("nothing was undone"))
    return _take_back_run(store, run)


def _losses(disk: Disk, run: Run, besides: Iterable[str]) -> list[Text]:
    """What the run kept and cannot give back, where it would have to."""
    every = [
        inverse for step in run.standing if not step.action.derived for inverse in step.action.inverse(step.changes)
    ]
    return [loss for inverse in every if inverse.path not in besides and (loss := inverse.loss(disk))]


def _take_back_run(store: Store, run: Run) -> Undone:
    """Every step that stands, the last first; a step that fails stands, and is tried again by the next run."""
    foreign, writer, every = foreign_changes(store.disk, run), store.resumed(run), Back()
    steps = run.standing[::-1]
    for step in steps:
        back = take_back(store.disk, step, foreign)
        every.stay += back.stay
        every.lost |= back.lost
        every.failed |= back.failed
        if not back.failed:
            writer.undone(step.number)
    if not every.failed:
        writer.end("closed")
    every.lost |= _not_as_before(store.disk, steps, {*every.stay, *every.lost}) | _unexplained(store.disk, run)
    tried = dict.fromkeys(inverse.path for step in steps for inverse in step.action.inverse(step.changes))
    restored = tuple(path for path in tried if path not in every.stay and path not in every.lost)
    return Undone(run.id, restored, tuple(dict.fromkeys(every.stay)), every.lost)


def _not_as_before(disk: Disk, steps: Iterable[Step], besides: Collection[str]) -> dict[str, Text]:
    """Nothing is called restored that is not: each path is looked at again. ``steps``: the last first."""
    first = {path: change.before for step in steps for path, change in step.changes.items() if path not in besides}
    wrong = (path for path, before in first.items() if not disk.node(path).same(before))
    return {path: text("{path} is not as it was before the repair", path=path) for path in wrong}


def _unexplained(disk: Disk, run: Run) -> dict[str, Text]:
    """Paths of the plans that are not as before although no step names them: the journal's end may be lost."""
    known = {path for step in run.steps for path in step.action.paths} | REBUILT
    wrong = (path for path, node in run.planned.items() if path not in known and not disk.node(path).same(node))
    if run.end:
        return {}
    return {
        path: text("{path} is not as it was before the repair, and the journal does not say why", path=path)
        for path in wrong
    }


def take_back(disk: Disk, step: Step, foreign: Collection[str] = ()) -> Back:
    """Put back what a step changed, but for ``foreign`` paths, which others changed since."""
    back = Back()
    for restore in step.action.inverse(step.changes):
        if restore.path not in foreign:
            _put_back(restore, disk, back)
        elif step.action.derived:  # what was kept of it is out of date; anything else is kept for its owner
            restore.clear(disk)
            back.stay.append(restore.path)
        else:
            back.lost[restore.path] = text("{path} was left as it is: others changed it since", path=restore.path)
    sync_around(disk, step.action.paths)
    return back


def _put_back(restore: Inverse, disk: Disk, back: Back) -> None:
    loss = restore.loss(disk)
    if loss:
        back.lost[restore.path] = loss
        return
    try:
        restore.apply(disk)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            back.stay.append(restore.path)
            return
        back.failed = True
        what = error.strerror or str(error)
        back.lost[restore.path] = text("{path} could not be restored: {what}", path=restore.path, what=what)


def foreign_changes(disk: Disk, run: Run) -> dict[str, Step]:
    """Paths that hold neither what the run left there nor what was there before, with the last step on each."""
    last = {path: step for step in run.standing for path in step.action.paths}
    return {path: step for path, step in last.items() if not _ours(disk, path, step)}


def _ours(disk: Disk, path: str, step: Step) -> bool:
    current, change = disk.node(path), step.changes[path]
    if current.same(change.before):
        return True
    expected = (step.after or step.action.results(step.changes)).get(path)
    # A file that a command was writing when the run was killed is not known, and cannot be anybody else's.
    return current.same(expected) if expected else step.after is None and current.kind in ("file", "absent")


def sync_around(disk: Disk, paths: Iterable[str]) -> None:
    for folder in dict.fromkeys(posixpath.dirname(path) for path in paths):
        if disk.node(folder).kind == "folder":
            disk.sync_folder(folder)
