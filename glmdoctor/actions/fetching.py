"""One file of a checkpoint from the hub, by ``glmcore download`` in a process of its own: resumed, and verified."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from glmcore import programs
from glmdoctor.actions.change import Changes, Undoable, placed
from glmdoctor.actions.disk import Disk, Node
from glmdoctor.messages import Text, text

FETCH_SECONDS = 24 * 3600
STAGING = ".glmdoctor-fetch"  # beside the file; what a cut transfer brought stays there for the next attempt


def staging(path: str) -> str:
    """The folder in which the file for ``path`` is gathered: on the same disk, so that one rename places it."""
    return posixpath.join(posixpath.dirname(path), STAGING)


def command(repository: str, name: str, folder: str) -> tuple[str, ...]:
    download = ("-m", "glmcore", "download", repository, "--output", folder, "--file", name)
    return tuple(programs.with_packages(programs.own_python(), *download))


def fetched(disk: Disk, path: str, repository: str, name: str, sha256: str | None) -> str:
    """Where the verified file lies now. The hub's own checksum has been compared; ``sha256`` is what was recorded here.

    OSError where it cannot be fetched, in glmcore's words, or is another revision's.
    """
    folder = staging(path)
    disk.run(command(repository, name, disk.real(folder)), FETCH_SECONDS)
    place = posixpath.join(folder, name)
    found = disk.node(place).sha256
    if sha256 is not None and found != sha256:
        disk.remove(place)
        raise OSError(f"{repository} has another revision of {name}: its sha256 is {found}, not {sha256}")
    return place


def tidy(disk: Disk, path: str) -> None:
    """Leave no empty folder behind."""
    folder = staging(path)
    if disk.node(folder).kind == "folder" and not disk.names(folder):
        disk.remove_folder(folder)


@dataclass(frozen=True)
class FetchFile(Undoable):
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
        place = fetched(disk, self.path, self.repository, self.name, self.sha256)
        if change.kept:
            disk.keep(self.path, change.kept, change.temporary)
        disk.rename(place, self.path)
        tidy(disk, self.path)

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

    def as_shell(self, changes: Changes) -> Sequence[str]:
        folder = staging(self.path)
        return (
            shlex.join(command(self.repository, self.name, folder)),
            placed(posixpath.join(folder, self.name), self.path),
        )
