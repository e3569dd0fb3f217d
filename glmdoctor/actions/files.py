"""Folders, links, text files and the linker's cache; each replaced in one rename, the former kept."""

from __future__ import annotations

import hashlib
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from glmdoctor.actions.change import Changes, Undoable, placed, replace_link
from glmdoctor.actions.disk import Disk, Node, own_ids
from glmdoctor.messages import Text, text

FOLDER_MODE = 0o755
LINKER_CACHE = "/etc/ld.so.cache"
LINKER_SCRATCH = "/var/cache/ldconfig/aux-cache"  # ldconfig's own notes; it rewrites them with the cache


@dataclass(frozen=True)
class MakeFolder(Undoable):
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

    def as_shell(self, changes: Changes) -> Sequence[str]:
        return (shlex.join(("mkdir", self.path)),)


@dataclass(frozen=True)
class PlaceLink(Undoable):
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

    def as_shell(self, changes: Changes) -> Sequence[str]:
        temporary = changes[self.path].temporary
        return shlex.join(("ln", "-s", self.target, temporary)), placed(temporary, self.path)


@dataclass(frozen=True)
class RefreshLinkerCache(Undoable):
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

    def as_shell(self, changes: Changes) -> Sequence[str]:
        temporary = changes[LINKER_CACHE].temporary
        return shlex.join(("ldconfig", "-X", "-C", temporary)), placed(temporary, LINKER_CACHE)


@dataclass(frozen=True)
class WriteFile(Undoable):
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

    def as_shell(self, changes: Changes) -> Sequence[str]:
        """The content as one quoted word; mode and owner as before."""
        change, node = changes[self.path], self.results(changes)[self.path]
        temporary = shlex.quote(change.temporary)
        owner = (f"chown {node.uid}:{node.gid} {temporary}",) if change.before.kind == "file" else ()
        return (
            f"printf '%s' {shlex.quote(self.content)} > {temporary}",
            shlex.join(("chmod", f"{node.mode:04o}", change.temporary)),
            *owner,
            placed(change.temporary, self.path),
        )


def digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()
