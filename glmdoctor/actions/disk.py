"""The doctor's hands: every change to a file system is one method here, below one root.

Tests subclass ``Disk`` to fail, or to die, before any of the changes; nothing else in the package writes to the machine
that is examined.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from glmcore import programs
from glmcore.folders import is_root, who_else
from glmdoctor.host.io import RealIO, resolve

Kind = Literal["absent", "link", "file", "folder", "other"]
COMMAND_TIMEOUT = 120  # seconds; ldconfig on a large, cold disk takes tens
NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
SYSTEM_FOLDERS = ":/usr/sbin:/sbin"  # where ldconfig lies; a user's PATH often leaves them out


@dataclass(frozen=True)
class Node:
    """What lies at a path, in as much detail as it takes to recognise it again and to put it back."""

    kind: Kind
    target: str = ""  # of a link, as written in it
    mode: int = 0  # permission bits
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    sha256: str = ""  # of a regular file

    def same(self, other: Node) -> bool:
        """Equal in everything that a repair promises to keep (times may differ)."""
        if self.kind != other.kind:
            return False
        if self.kind == "link":
            return self.target == other.target
        return self.kind != "file" or (self.sha256, self.mode, self.uid) == (other.sha256, other.mode, other.uid)


ABSENT = Node("absent")


def own_ids() -> tuple[int, int]:
    """User and group that this process makes files as."""
    return os.geteuid(), os.getegid()


def _kind(mode: int) -> Kind:
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def _is_mine(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


class Disk:
    """File system calls below ``root``, with links followed inside it; each change announces itself to ``step``."""

    def __init__(self, root: str = "/", binds: Sequence[str] = ()) -> None:
        """``binds``: folders of the running system that a fake root sees too, read only."""
        self.root = os.path.abspath(root)
        self._eyes = RealIO(root, binds)

    def step(self, change: str, path: str) -> None:
        """Called right before each change."""

    # Reading

    def canonical(self, path: str) -> str:
        """``path`` with the links of its folders followed; its own last part stays as it is."""
        return resolve(path, self._link, follow_last=False)

    def real(self, path: str) -> str:
        """Where ``path`` lies for the operating system."""
        return path if self.root == "/" else self.root + self.canonical(path)

    def node(self, path: str) -> Node:
        try:
            status = os.lstat(self.real(path))
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        kind = _kind(status.st_mode)
        return Node(
            kind,
            target=os.readlink(self.real(path)) if kind == "link" else "",
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if kind == "file" else 0,
            sha256=self._digest(path) if kind == "file" else "",
        )

    def holds(self, path: str, former: Node) -> bool:
        """Does ``path`` hold the same as ``former``? A file of another size is not read."""
        try:
            status = os.lstat(self.real(path))
        except (FileNotFoundError, NotADirectoryError):
            return former.kind == "absent"
        kind = _kind(status.st_mode)
        if kind != former.kind or (kind == "file" and status.st_size != former.size):
            return False
        return self.node(path).same(former)

    def exists(self, path: str) -> bool:
        """Does ``path`` lead to something, all links followed inside the root?"""
        return self._eyes.exists(path)

    def is_mine(self, path: str) -> bool:
        """Is it a regular file of this user that nobody else can write to?"""
        return _is_mine(os.lstat(self.real(path)))

    def insist_on_ours(self, folder: str) -> None:
        """Raise PermissionError where somebody else could put files into ``folder``, or replace it as a whole."""
        status = os.lstat(self.real(folder))
        doubt = None if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else "others can write there"
        if doubt is None and is_root():
            doubt = who_else(os.path.realpath(self.real(folder)))
        if doubt:
            raise PermissionError(errno.EPERM, f"not for this user alone: {doubt}", folder)

    def may_write(self, folder: str) -> bool:
        """May this process create names in ``folder``? False where it is no folder."""
        place = self.real(folder + "/.")
        return os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.real(folder + "/.")))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str, limit: int) -> bytes:
        """A regular file whole; OSError where it is none (links are not followed, nothing is waited for) or larger."""
        descriptor = os.open(self.real(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return content

    def runs(self, program: str) -> bool:
        """Can the running system start ``program``?"""
        return os.path.isfile(program) and os.access(program, os.X_OK)

    def digest(self, path: str) -> str | None:
        """sha256 of the file that ``path`` leads to, all links followed inside the root; None where there is none."""
        return self._digest_of(self._eyes.place(path)) if self._eyes.is_file(path) else None

    # Changing

    def make_folder(self, path: str, mode: int) -> None:
        self.step("mkdir", path)
        os.mkdir(self.real(path), mode)

    def remove_folder(self, path: str) -> None:
        self.step("rmdir", path)
        os.rmdir(self.real(path))

    def link(self, target: str, path: str) -> None:
        self.step("symlink", path)
        os.symlink(target, self.real(path))

    def keep(self, path: str, kept: str, temporary: str) -> None:
        """Give a regular file a second name; a copy, whole from the first, where the file system has no hard links."""
        self.step("keep", kept)
        try:
            os.link(self.real(path), self.real(kept), follow_symlinks=False)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            self._copy(path, temporary)
            os.rename(self.real(temporary), self.real(kept))

    def rename(self, old: str, new: str) -> None:
        self.step("rename", new)
        os.rename(self.real(old), self.real(new))

    def remove(self, path: str) -> None:
        self.step("unlink", path)
        os.unlink(self.real(path))

    def adopt(self, path: str, former: Node) -> None:
        """Give a link the owner and the time it had before."""
        self.step("adopt", path)
        place = self.real(path)
        if (os.lstat(place).st_uid, os.lstat(place).st_gid) != (former.uid, former.gid):
            os.lchown(place, former.uid, former.gid)
        os.utime(place, ns=(former.mtime_ns, former.mtime_ns), follow_symlinks=False)

    def write(self, path: str, data: bytes, like: Node) -> None:
        """Make a file of our own anew, with the mode and the owner of ``like``, and wait until it is on the disk."""
        self.step("write", path)
        place = self.real(path)
        if os.path.lexists(place):  # left by a crash; the name is ours alone
            os.unlink(place)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._write_all(descriptor, data)
            if (like.uid, like.gid) != own_ids():
                os.fchown(descriptor, like.uid, like.gid)
            os.fchmod(descriptor, like.mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def append(self, path: str, data: bytes) -> None:
        """Add to a file (made where it is missing, for this user alone) and wait until it is on the disk."""
        self.step("append", path)
        self._write_own(path, data, os.O_APPEND)

    def overwrite(self, path: str, data: bytes) -> None:
        """Write over the beginning of a file of ours (made as by ``append``), in one write, and wait for the disk."""
        self.step("overwrite", path)
        self._write_own(path, data, 0)

    def sync_folder(self, path: str) -> None:
        """Wait until the names in a folder are on the disk."""
        self.step("sync", path)
        descriptor = os.open(self.real(path + "/."), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def run(self, argv: Sequence[str], timeout: float = COMMAND_TIMEOUT) -> str:
        """Run a system command; its words where it fails, as OSError."""
        self.step("run", argv[0])
        program = programs.which(argv[0], os.environ.get("PATH", os.defpath) + SYSTEM_FOLDERS)
        if program is None:
            raise FileNotFoundError(f"{argv[0]}: command not found")
        done = programs.run([program, *argv[1:]], timeout)
        if done.code != 0:
            raise OSError(f"{argv[0]}: {' '.join(done.err.split()) or f'exit status {done.code}'}")
        return done.out

    # Inside

    def _write_own(self, path: str, data: bytes, flags: int) -> None:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.real(path), flags, 0o600)
        try:
            if not _is_mine(os.fstat(descriptor)):
                raise PermissionError(errno.EPERM, "not a file of this user alone", path)
            self._write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _link(self, path: str) -> str | None:
        try:
            return os.readlink(path if self.root == "/" else self.root + path)
        except (OSError, ValueError):
            return None

    def _digest(self, path: str) -> str:
        return self._digest_of(self.real(path))

    def _digest_of(self, place: str) -> str:
        with open(place, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def _copy(self, path: str, copy: str) -> None:
        status = os.lstat(self.real(path))
        shutil.copy2(self.real(path), self.real(copy), follow_symlinks=False)
        if os.geteuid() == 0:
            os.chown(self.real(copy), status.st_uid, status.st_gid)
        with open(self.real(copy), "rb") as file:
            os.fsync(file.fileno())

    def _write_all(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
