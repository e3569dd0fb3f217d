"""The doctor's eyes: files, variables and the output of commands, without judging any of it.

``RealIO`` reads this machine, or a *fake root*: a folder that stands for ``/`` and whose links are followed inside it,
as chroot would. ``recorded.RecordedIO`` replays a machine from plain data. Nothing here writes, and nothing but regular
files is opened: a pipe or a device could block, or have an effect.
"""

from __future__ import annotations

import errno
import ntpath
import os
import platform
import posixpath
import stat as stat_module
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from glmcore import programs
from glmcore.reading import open_regular

MAX_LINKS = 40  # the kernel's own limit for one path
READ_LIMIT = 1 << 20
ROOT_VARIABLE = "GLMDOCTOR_ROOT"  # a fake root, for the lab


class Result(NamedTuple):
    """What a command gave; code 127 where it could not be started, 124 where it ran past its time."""

    code: int
    out: str
    err: str


class IO(ABC):
    """Everything a probe may ask. Paths are absolute; failures are ``OSError``, except those of ``run``."""

    root = "/"  # the folder that stands for it
    system: str  # as platform.system() has it: "Linux", "Windows", "Darwin"
    machine: str  # as platform.machine() has it

    @abstractmethod
    def env(self) -> Mapping[str, str]: ...

    @abstractmethod
    def open(self, path: str) -> BinaryIO: ...

    @abstractmethod
    def stat(self, path: str) -> os.stat_result: ...

    @abstractmethod
    def lstat(self, path: str) -> os.stat_result: ...

    @abstractmethod
    def readlink(self, path: str) -> str: ...

    @abstractmethod
    def listdir(self, path: str) -> list[str]: ...

    @abstractmethod
    def access(self, path: str, mode: int) -> bool: ...

    @abstractmethod
    def run(
        self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Result: ...

    def bound(self, *folders: str) -> IO:
        """The same machine; in a fake root that lacks them, these folders of the running system are seen too."""
        return self

    def running(self) -> IO:
        """The running system: a fake root has no programs of its own that could be started."""
        return self

    def place(self, path: str) -> str:
        """Where ``path`` lies for the processes of the running system."""
        return path

    def realpath(self, path: str) -> str:
        """``path`` with every link followed, as far as it leads; OSError (ELOOP) where the links loop."""
        return resolve(path, self._link)

    def read_bytes(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """The first ``limit`` bytes of a regular file (reading a pipe or a device could block, or have an effect)."""
        if not stat_module.S_ISREG(self.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        with self.open(path) as file:
            return file.read(limit)

    def read_text(self, path: str, limit: int = READ_LIMIT) -> str:
        return self.read_bytes(path, limit).decode("utf-8", "replace")

    def text_or_none(self, path: str) -> str | None:
        """The text of a small file, stripped; None where it cannot be read."""
        try:
            return self.read_text(path).strip()
        except OSError:
            return None

    def names(self, path: str) -> list[str]:
        """Sorted names in a folder; none where it cannot be listed."""
        try:
            return sorted(self.listdir(path))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        return self._mode(path) != 0

    def is_folder(self, path: str) -> bool:
        return stat_module.S_ISDIR(self._mode(path))

    def is_file(self, path: str) -> bool:
        return stat_module.S_ISREG(self._mode(path))

    def which(self, command: str) -> str | None:
        """The file that a shell would run for ``command`` (a name, or a path)."""
        if self.system == "Windows":
            return self._which_on_windows(command)
        if "/" in command:
            return command if self._runnable(command) else None
        for folder in self.env().get("PATH", os.defpath).split(":"):
            path = posixpath.join(folder or ".", command)
            if posixpath.isabs(path) and self._runnable(path):
                return path
        return None

    def _which_on_windows(self, command: str) -> str | None:
        folders = [""] if "\\" in command else self.env().get("PATH", "").split(";")
        names = (ntpath.join(folder, command + ending) for folder in folders for ending in ("", ".exe"))
        return next((path for path in names if ntpath.isabs(path) and self._runnable(path)), None)

    def _runnable(self, path: str) -> bool:
        return self.is_file(path) and self.access(path, os.X_OK)

    def _mode(self, path: str) -> int:
        try:
            return self.stat(path).st_mode
        except (OSError, ValueError):  # ValueError: a NUL in the path
            return 0

    def _link(self, path: str) -> str | None:
        try:
            return self.readlink(path)
        except (OSError, ValueError):
            return None


def resolve(path: str, link: Callable[[str], str | None], follow_last: bool = True) -> str:
    """Follow the links of an absolute path one component at a time, never above "/".

    ``link`` gives the target of a path whose parent is resolved, or None where it is no link. Raises OSError (ELOOP)
    where there are more links than the kernel follows.
    """
    done, todo, links = "/", deque(path.split("/")), 0
    while todo:
        part = todo.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            done = posixpath.dirname(done)
            continue
        here = posixpath.join(done, part)
        target = link(here) if todo or follow_last else None
        if target is None:
            done = here
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = "/"
        todo.extendleft(reversed(target.split("/")))
    return done


class RealIO(IO):
    """The running system, or the part of it below ``root`` with some folders bound in."""

    def __init__(
        self, root: str | None = None, binds: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        """``root``: "/" unless given, or named by GLMDOCTOR_ROOT."""
        self._environ = os.environ if environ is None else environ
        given = root or self._environ.get(ROOT_VARIABLE, "/")
        self.root = given if given == "/" else os.path.abspath(given)  # on Windows that would name a drive
        self.system, self.machine = platform.system(), platform.machine()
        self._binds = tuple(binds)

    def env(self) -> Mapping[str, str]:
        return self._environ

    def bound(self, *folders: str) -> RealIO:
        if self.root == "/":
            return self
        lacking = (folder for folder in folders if not os.path.exists(self.root + folder))
        return RealIO(self.root, (*self._binds, *lacking), self._environ)

    def running(self) -> RealIO:
        return RealIO("/", environ=self._environ)

    def place(self, path: str) -> str:
        return self._place(path, follow_last=True)

    def _place(self, path: str, follow_last: bool) -> str:
        if self.root == "/" or self._is_bound(path):
            return path
        inside = resolve(path, self._inner_link, follow_last)
        return inside if self._is_bound(inside) else self.root + inside

    def _is_bound(self, path: str) -> bool:
        return any(path == bind or path.startswith(bind.rstrip("/") + "/") for bind in self._binds)

    def _inner_link(self, path: str) -> str | None:
        try:
            return os.readlink(path if self._is_bound(path) else self.root + path)
        except (OSError, ValueError):
            return None

    def open(self, path: str) -> BinaryIO:
        return open_regular(self.place(path))

    def stat(self, path: str) -> os.stat_result:
        return os.stat(self.place(path))

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(self._place(path, follow_last=False))

    def readlink(self, path: str) -> str:
        return os.readlink(self._place(path, follow_last=False))

    def listdir(self, path: str) -> list[str]:
        return os.listdir(self.place(path))

    def access(self, path: str, mode: int) -> bool:
        return os.access(self.place(path), mode)

    def realpath(self, path: str) -> str:
        return os.path.realpath(path) if self.root == "/" else super().realpath(path)

    def which(self, command: str) -> str | None:
        if self.root != "/":
            return super().which(command)
        return programs.which(command, self._environ.get("PATH", os.defpath))

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, stdin: str = "") -> Result:
        return Result(*programs.run(argv, timeout, self._environ if env is None else env, stdin=stdin))
