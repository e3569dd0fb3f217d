"""The way back: runs that were killed are rolled back, finished ones undone when asked; nobody else's work is lost."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from glmdoctor.actions import Inverse
from glmdoctor.disk import Disk
from glmdoctor.journal import Run, Step, Store
from glmdoctor.messages import Text, text


class Refused(Exception):
    """Something that must not be done now; ``reason`` is for the user."""

    def __init__(self, reason: Text) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True)
class Undone:
    """A run that was taken back, and what had to stay as it is because others changed it since."""

    run: str
    restored: tuple[str, ...]
    stay: tuple[str, ...]


def recover(store: Store) -> list[Undone]:
    """Roll back every run that was killed, the newest first."""
    return [_take_back_run(store, run) for run in reversed(store.runs()) if not run.end]


def undo(store: Store, wanted: str | None = None) -> Undone | None:
    """Take back the run named (the latest by default); None where there is nothing to take back.

    Refuses, before anything is touched, where others changed what the run left. Only the linker cache may have been
    rebuilt since: it is made from what is there, and stays.
    """
    runs = [run for run in store.runs() if run.end == "finished" and wanted in (None, run.id)]
    if not runs:
        return None
    run = runs[-1]
    changed = [path for path, step in foreign_changes(store.disk, run).items() if not step.action.derived]
    if changed:
        raise Refused(
            text("{path} has been changed by others since run {run}; nothing was undone", path=changed[0], run=run.id)
        )
    return _take_back_run(store, run)


def _take_back_run(store: Store, run: Run) -> Undone:
    foreign = foreign_changes(store.disk, run)
    writer, restored, stay = store.writer(run.id), dict[str, None](), dict[str, None]()
    for step in reversed(run.standing):
        kept_back = take_back(store.disk, step, foreign)
        stay.update(dict.fromkeys(kept_back))
        put_back = (inverse.path for inverse in step.action.inverse(step.changes))
        restored.update(dict.fromkeys(path for path in put_back if path not in kept_back))
        writer.undone(step.number)
    writer.end("closed")
    return Undone(run.id, tuple(restored), tuple(stay))


def take_back(disk: Disk, step: Step, foreign: Iterable[str] = ()) -> list[str]:
    """Put back what a step changed; the paths that stay: ``foreign`` ones, and folders that others use by now."""
    stay = []
    for restore in step.action.inverse(step.changes):
        if restore.path in foreign:
            if step.action.derived:  # what was kept of it is out of date; anything else is kept for its owner
                restore.clear(disk)
            stay.append(restore.path)
        elif not _restored(restore, disk):
            stay.append(restore.path)
    sync_around(disk, step.action.paths)
    return stay


def _restored(restore: Inverse, disk: Disk) -> bool:
    try:
        restore.apply(disk)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def foreign_changes(disk: Disk, run: Run) -> dict[str, Step]:
    """Paths that hold neither what the run left there nor what was there before, with the last step on each."""
    last = {path: step for step in run.standing for path in step.action.paths}
    return {path: step for path, step in last.items() if not _ours(disk, path, step)}


def _ours(disk: Disk, path: str, step: Step) -> bool:
    current, change = disk.node(path), step.changes[path]
    if current.same(change.before):
        return True
    if change.kept and disk.node(change.kept).kind != "file":
        return False
    expected = (step.after or step.action.results(step.changes)).get(path)
    # A file that a command was writing when the run was killed is not known, and cannot be anybody else's.
    return current.same(expected) if expected else step.after is None


def sync_around(disk: Disk, paths: Iterable[str]) -> None:
    for folder in dict.fromkeys(posixpath.dirname(path) for path in paths):
        if disk.node(folder).kind == "folder":
            disk.sync_folder(folder)
