"""A machine replayed from plain data: for tests, and for systems other than the one at hand."""

from __future__ import annotations

import errno
import io
import ntpath
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from glmdoctor.host.io import IO, Result, resolve


@dataclass(frozen=True)
class Link:
    """A symbolic link of a recorded machine."""

    target: str


@dataclass
class RecordedIO(IO):
    """A machine replayed from plain data: files (text, bytes or Link) by path, variables, and answers of commands."""

    files: Mapping[str, str | bytes | Link]
    environ: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[tuple[str, ...], Result] = field(default_factory=dict)
    system: str = "Linux"
    machine: str = "x86_64"

    def env(self) -> Mapping[str, str]:
        return self.environ

    def open(self, path: str) -> BinaryIO:
        content = self._content(self._follow(path), path)
        return io.BytesIO(content.encode() if isinstance(content, str) else content)

    def stat(self, path: str) -> os.stat_result:
        return self._status(self._follow(path), path)

    def lstat(self, path: str) -> os.stat_result:
        return self._status(self._follow(path, last=False), path)

    def readlink(self, path: str) -> str:
        """Raises OSError, as the system does, where there is no link."""
        entry = self.files.get(self._follow(path, last=False))
        if not isinstance(entry, Link):
            raise OSError(errno.EINVAL, "not a link", path)
        return entry.target

    def listdir(self, path: str) -> list[str]:
        """Names in the order in which they were recorded (Windows' search depends on it).

        Raises FileNotFoundError where nothing lies below ``path``.
        """
        folder = self._follow(path).rstrip(self._separator) + self._separator
        below = (name[len(folder) :] for name in self.files if name.startswith(folder))
        names = list(dict.fromkeys(name.split(self._separator)[0] for name in below))
        if not names and folder != self._separator:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return names

    def access(self, path: str, mode: int) -> bool:
        return self.exists(path)

    def run(self, argv: Sequence[str], timeout: float, env: Mapping[str, str] | None = None, stdin: str = "") -> Result:
        return self.answers.get(tuple(argv), Result(127, "", f"not recorded: {argv[0]}"))

    @property
    def _separator(self) -> str:
        return "\\" if self.system == "Windows" else "/"

    def _follow(self, path: str, last: bool = True) -> str:
        if self.system == "Windows":
            return ntpath.normpath(path)
        return resolve(path, self._target, last)

    def _target(self, path: str) -> str | None:
        entry = self.files.get(path)
        return entry.target if isinstance(entry, Link) else None

    def _content(self, found: str, path: str) -> str | bytes:
        entry = self.files.get(found)
        if entry is None or isinstance(entry, Link):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return entry

    def _status(self, found: str, path: str) -> os.stat_result:
        entry = self.files.get(found)
        if isinstance(entry, Link):
            mode, size = stat.S_IFLNK | 0o777, len(entry.target)
        elif entry is not None:
            mode, size = stat.S_IFREG | 0o755, len(entry)
        else:
            self.listdir(path)  # raises where it is no folder either
            mode, size = stat.S_IFDIR | 0o755, 0
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))
