"""The folders that compiled kernels are kept in."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from glmcore.folders import is_root, user_folder, who_else
from glmcore.kernels.failure import KernelError

PROBE_BYTES = 1 << 20  # objects and library together


def folders(asked: Path | None, temporary: bool) -> Iterator[Path]:
    """The folder asked for or the user's cache; then, if ``temporary``, a private one among the temporary files."""
    if asked is not None:
        yield asked
    else:
        user = user_folder("cache", "glmcore")
        if user is not None:
            yield Path(user, "kernels")
    if temporary:
        yield Path(tempfile.gettempdir()) / f"glmcore-kernels-{_user()}"


def _user() -> int:
    """This user's number; Windows has none, and gives its files the number 0."""
    return os.getuid() if hasattr(os, "getuid") else 0


def ours(folder: Path) -> bool:
    """Whether nobody else could have put a library there."""
    try:
        info = folder.stat()
    except OSError:
        return False
    if is_root() and who_else(os.path.realpath(folder)):
        return False
    return info.st_uid == _user() and not info.st_mode & stat.S_IWOTH


def writable(choice: Sequence[Path]) -> Path:
    """The first folder that is ours and takes as much as a library needs. Errors: KernelError("kernel-build")."""
    refused: list[str] = []
    for folder in choice:
        reason = why_not(folder)
        if reason is None:
            return folder
        refused.append(f"{folder}: {reason}")
    raise KernelError("kernel-build", "no folder to keep the kernel in", stage="cache",
                      where="; ".join(refused) or "this user has no home folder",
                      hint="free some space, or let XDG_CACHE_HOME name a folder that can be written")  # fmt: skip


def why_not(folder: Path) -> str | None:
    """What stands against keeping a library in ``folder``, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not ours(folder):
            return "others could put a library there"
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        return error.strerror or str(error)
    return None
