"""One file of a checkpoint from the hub, by ``glmcore download`` in a process of its own: resumed, and verified."""

from __future__ import annotations

import posixpath

from glmcore import programs
from glmdoctor.actions.disk import Disk

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
