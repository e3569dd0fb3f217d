"""What every action is: what was at its paths, the change, and the way back.

A ``Change`` is what was at one path before, and the names that the way back needs. It is read when the plan is made,
shown, written to the journal, and compared again right before the action: an action never meets a state that its plan
has not seen. Every action replaces a name in one rename, so that it is either as before or as after.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from glmdoctor.actions.disk import ABSENT, Disk, Node
from glmdoctor.messages import Text, text


@dataclass(frozen=True)
class Change:
    """One path of an action: what was there, where a regular file is kept, and the temporary name in between."""

    before: Node
    temporary: str
    kept: str | None = None  # only where ``before`` is a regular file


Changes = Mapping[str, Change]  # path → Change


class Inverse(Protocol):
    """One part of the way back; done twice it does no more than done once. ``path`` names what it restores."""

    @property
    def path(self) -> str: ...

    def apply(self, disk: Disk) -> None: ...

    def clear(self, disk: Disk) -> None: ...

    def loss(self, disk: Disk) -> Text | None:
        """Why it cannot be done, as far as that is seen beforehand."""
        ...


class Action(Protocol):
    """A change of the machine. ``apply`` may touch ``paths`` and the names in their ``Change``, nothing else."""

    derived: ClassVar[bool]  # made from other files by a system program, which may make it anew at any time

    @property
    def kind(self) -> str: ...

    @property
    def paths(self) -> tuple[str, ...]: ...

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        """Is the state that the action wants there already?"""
        ...

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        """Why the action must not be done in this state."""
        ...

    def apply(self, disk: Disk, changes: Changes) -> None: ...

    def inverse(self, changes: Changes) -> tuple[Inverse, ...]: ...

    def results(self, changes: Changes) -> Mapping[str, Node]:
        """What will lie at the paths afterwards, as far as it is known beforehand."""
        ...

    def describe(self, changes: Changes) -> Text: ...

    def as_shell(self, changes: Changes) -> Sequence[str]:
        """The same in lines for sh, each a command; what the changes keep has been kept before them."""
        ...


@dataclass(frozen=True)
class Restore:
    """The way back of every action: what was at ``path`` is there again, or nothing where nothing was."""

    path: str
    change: Change

    def apply(self, disk: Disk) -> None:
        """Do nothing where it is done already: a crash may have come in between."""
        current, before = disk.node(self.path), self.change.before
        if not current.same(before):
            self._put_back(disk, current)
        self.clear(disk)

    def clear(self, disk: Disk) -> None:
        """Remove the names that the way back needed; what has been changed there since is not ours, and stays."""
        temporary, kept = self.change.temporary, self.change.kept
        if disk.node(temporary).kind in ("link", "file"):
            disk.remove(temporary)
        if kept and disk.holds(kept, self.change.before):
            disk.remove(kept)

    def loss(self, disk: Disk) -> Text | None:
        """Why a kept file cannot be put back, where it is needed."""
        kept, before = self.change.kept, self.change.before
        if kept is None or disk.holds(self.path, before) or disk.holds(kept, before):
            return None
        if disk.holds(kept, ABSENT):
            return text("{path} cannot be restored: {kept}, as which it was kept, is gone", path=self.path, kept=kept)
        return text(
            "{path} cannot be restored: {kept}, as which it was kept, has changed since", path=self.path, kept=kept
        )

    def _put_back(self, disk: Disk, current: Node) -> None:
        before = self.change.before
        if before.kind == "file":
            disk.rename(str(self.change.kept), self.path)
        elif before.kind == "link":
            replace_link(disk, before.target, self.path, self.change.temporary, before)
        elif current.kind == "folder":
            disk.remove_folder(self.path)
        else:
            disk.remove(self.path)


def replace_link(disk: Disk, target: str, path: str, temporary: str, former: Node | None = None) -> None:
    """Make ``path`` a link to ``target`` in one rename; a former link gets its owner and time back."""
    if disk.node(temporary).kind != "absent":  # left by a crash; the name is ours alone
        disk.remove(temporary)
    disk.link(target, temporary)
    if former is not None:
        disk.adopt(temporary, former)
    disk.rename(temporary, path)


class Undoable:
    """The inverse of every action: each of its paths restored, the last first."""

    derived: ClassVar[bool] = False

    def inverse(self, changes: Changes) -> tuple[Restore, ...]:
        return tuple(Restore(path, change) for path, change in reversed(list(changes.items())))


def change_of(path: str, disk: Disk, run: str, number: int) -> Change:
    """The state at ``path`` now, with names of this run beside it; hidden, so that no loader takes them up."""
    before = disk.node(path)
    folder, name = posixpath.split(path)
    stem = posixpath.join(folder, f".glmdoctor-{run}-{number}-{name}")
    return Change(before, stem + ".new", stem + ".kept" if before.kind == "file" else None)


def missing_folders(path: str, disk: Disk) -> Sequence[str]:
    """The folders above ``path`` that are not there, outermost first."""
    missing: list[str] = []
    folder = posixpath.dirname(path)
    while folder != "/" and disk.node(folder) == ABSENT:
        missing.insert(0, folder)
        folder = posixpath.dirname(folder)
    return missing


def placed(temporary: str, path: str) -> str:
    """The shell's line for ``Disk.rename``: in one rename, and never into a folder."""
    return shlex.join(("mv", "-f", "-T", temporary, path))
