"""The folder of a local cluster: gone when its program ends, or where that was killed, when the next one begins."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import psutil

# Short: sockets lie in the folder, whose paths end at 107 characters.
PREFIX = "glm-"
# What Ray asks of those who join; its program holds a lock on it for as long as it runs.
TOKEN = "glmcore-token"  # noqa: S105

# What Ray's processes call themselves.
RAYS = ("ray::", "raylet", "gcs_server")


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that only this user can read, with a new token in it. Yields the token's path."""
    for left in orphans():
        end_processes(left)
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    made = folder / f"{TOKEN}.new"
    try:
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            locked(file.fileno())
            yield made.rename(folder / TOKEN)  # nobody ever finds it without its lock
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def orphans() -> Iterator[Path]:
    """Folders of this user's whose program was killed: nobody holds their locks."""
    if os.name != "posix":
        return
    for token in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{TOKEN}"):
        with suppress(OSError):
            descriptor = os.open(token, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.getuid() and locked(descriptor):
                    yield token.parent
            finally:
                os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Lock an open file for as long as it is; whether nobody else had it locked."""
    if os.name != "posix":
        return False
    fcntl = import_module("fcntl")
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def end_processes(folder: Path) -> None:
    """Those of Ray's that write there and did not notice that their program is gone."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            files = process.open_files() if process.name().startswith(RAYS) else ()
            if any(Path(file.path).is_relative_to(folder) for file in files):
                process.kill()
