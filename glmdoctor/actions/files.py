"""The closed set of things a repair may do, each undone by putting back what it found.

A ``Change`` is what was at one path before, and the names that the way back needs. It is read when the plan is made,
shown, written to the journal, and compared again right before the action: an action never meets a state that its plan
has not seen. Every action replaces a name in one rename, so that it is either as before or as after.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from glmdoctor.actions import fetching
from glmdoctor.actions.disk import ABSENT, Disk, Node, own_ids
from glmdoctor.messages import Text, text

FOLDER_MODE = 0o755
LINKER_CACHE = "/etc/ld.so.cache"
LINKER_SCRATCH = "/var/cache/ldconfig/aux-cache"  # ldconfig's own notes; it rewrites them with the cache


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


class _Undoable:
    """The inverse of every action: each of its paths restored, the last first."""

    derived: ClassVar[bool] = False

    def inverse(self, changes: Changes) -> tuple[Restore, ...]:
        return tuple(Restore(path, change) for path, change in reversed(list(changes.items())))


@dataclass(frozen=True)
class MakeFolder(_Undoable):
    """A folder where nothing is."""

    path: str
    kind: str = field(default="make-folder", init=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        return before[self.path].kind == "folder"

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        return None if before[self.path].kind == "absent" else text("{path} is not a folder", path=self.path)

    def apply(self, disk: Disk, changes: Changes) -> None:
        disk.make_folder(self.path, FOLDER_MODE)

    def results(self, changes: Changes) -> Mapping[str, Node]:
        return {self.path: Node("folder")}

    def describe(self, changes: Changes) -> Text:
        return text("make the folder {path}", path=self.path)


@dataclass(frozen=True)
class PlaceLink(_Undoable):
    """A symbolic link, in place of nothing, another link, or a regular file that is kept."""

    path: str
    target: str
    kind: str = field(default="place-link", init=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        return before[self.path].kind == "link" and before[self.path].target == self.target

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        if before[self.path].kind not in ("absent", "link", "file"):
            return text("{path} is neither a link nor a regular file", path=self.path)
        if not disk.exists(posixpath.join(posixpath.dirname(self.path), self.target)):
            return text("{target} does not exist", target=self.target)
        return None

    def apply(self, disk: Disk, changes: Changes) -> None:
        change = changes[self.path]
        if change.kept:
            disk.keep(self.path, change.kept, change.temporary)
        replace_link(disk, self.target, self.path, change.temporary)

    def results(self, changes: Changes) -> Mapping[str, Node]:
        return {self.path: Node("link", target=self.target)}

    def describe(self, changes: Changes) -> Text:
        change = changes[self.path]
        if change.before.kind == "link":
            return text(
                "point the link {path} to {target} (it led to {former})",
                path=self.path,
                target=self.target,
                former=change.before.target,
            )
        if change.before.kind == "file":
            return text(
                "replace the file {path} by a link to {target}; the file is kept as {kept}",
                path=self.path,
                target=self.target,
                kept=change.kept,
            )
        return text("link {path} to {target}", path=self.path, target=self.target)


@dataclass(frozen=True)
class RefreshLinkerCache(_Undoable):
    """A new linker cache by ldconfig, told to leave every link alone: by itself it deletes dangling ones."""

    derived: ClassVar[bool] = True
    kind: str = field(default="refresh-linker-cache", init=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return (LINKER_CACHE, LINKER_SCRATCH)

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        return False

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        wrong = [path for path, node in before.items() if node.kind not in ("absent", "file")]
        return text("{path} is not a regular file", path=wrong[0]) if wrong else None

    def apply(self, disk: Disk, changes: Changes) -> None:
        for path, change in changes.items():
            if change.kept:
                disk.keep(path, change.kept, change.temporary)
        cache = changes[LINKER_CACHE]
        root = [] if disk.root == "/" else ["-r", disk.root]
        disk.run(["ldconfig", "-X", "-C", cache.temporary, *root])
        disk.rename(cache.temporary, LINKER_CACHE)

    def results(self, changes: Changes) -> Mapping[str, Node]:
        return {}

    def describe(self, changes: Changes) -> Text:
        return text("rebuild the linker cache {path}; no link is touched, the old cache is kept", path=LINKER_CACHE)


@dataclass(frozen=True)
class WriteFile(_Undoable):
    """A text file, in place of nothing, or of the file or link whose content the plan was made from (and is kept)."""

    path: str
    content: str
    former: str | None  # sha256 of the content that the plan has read; None where there was no file
    kind: str = field(default="write-file", init=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        return before[self.path].sha256 == digest(self.content)

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        if before[self.path].kind not in ("absent", "link", "file"):
            return text("{path} is neither a link nor a regular file", path=self.path)
        if disk.digest(self.path) != self.former:
            return text("{path} has changed since the plan was made", path=self.path)
        return None

    def apply(self, disk: Disk, changes: Changes) -> None:
        change = changes[self.path]
        if change.kept:
            disk.keep(self.path, change.kept, change.temporary)
        disk.write(change.temporary, self.content.encode("utf-8", "surrogateescape"), self.results(changes)[self.path])
        disk.rename(change.temporary, self.path)

    def results(self, changes: Changes) -> Mapping[str, Node]:
        """The mode and the owner of the file that was there; else readable for all, and the user's own."""
        before = changes[self.path].before
        mode, uid, gid = (before.mode, before.uid, before.gid) if before.kind == "file" else (0o644, *own_ids())
        return {self.path: Node("file", mode=mode, uid=uid, gid=gid, sha256=digest(self.content))}

    def describe(self, changes: Changes) -> Text:
        change = changes[self.path]
        if change.before.kind == "file":
            return text("change the file {path}; it is kept as {kept}", path=self.path, kept=change.kept)
        if change.before.kind == "link":
            return text("replace the link {path} by a changed copy of its file", path=self.path)
        return text("write the file {path}", path=self.path)


@dataclass(frozen=True)
class FetchFile(_Undoable):
    """A checkpoint's file as its repository has it, in place of nothing or of the damaged one, which is kept."""

    path: str
    name: str  # in the repository
    repository: str
    sha256: str | None  # what this machine knows of the right file; the hub's own checksum is compared in any case
    kind: str = field(default="fetch-file", init=False)

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def satisfied(self, before: Mapping[str, Node]) -> bool:
        return self.sha256 is not None and before[self.path].sha256 == self.sha256

    def obstacle(self, before: Mapping[str, Node], disk: Disk) -> Text | None:
        if before[self.path].kind not in ("absent", "file"):
            return text("{path} is neither a link nor a regular file", path=self.path)
        return None

    def apply(self, disk: Disk, changes: Changes) -> None:
        change = changes[self.path]
        place = fetching.fetched(disk, self.path, self.repository, self.name, self.sha256)
        if change.kept:
            disk.keep(self.path, change.kept, change.temporary)
        disk.rename(place, self.path)
        fetching.tidy(disk, self.path)

    def results(self, changes: Changes) -> Mapping[str, Node]:
        return {}

    def describe(self, changes: Changes) -> Text:
        kept = changes[self.path].kept
        if kept:
            return text(
                "fetch {name} of {repository} again, resumed and verified; the damaged file is kept as {kept}",
                name=self.name,
                repository=self.repository,
                kept=kept,
            )
        return text("fetch {name} of {repository}, resumed and verified", name=self.name, repository=self.repository)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


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
