"""The shell script by which a command enters a machine: the mounts that make it, in a namespace of its own.

As root the script mounts at once. A *rootless* machine is entered as a plain user, whose own user namespace grants the
mounts; there no device node can be made, so bind mounts of /dev/null stand for the nodes.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machine import Machine

NODES = ("null", "zero", "full", "random", "urandom", "tty")
# What the machine says in place of the kernel; the last two only where the machine says something there.
KERNEL_FOLDERS = {"driver": "/proc/driver", "module": "/sys/module", "pci": "/sys/bus/pci"}
EXTRA_FOLDERS = {"cgroup": "/sys/fs/cgroup", "run": "/run"}
OSRELEASE = "/proc/sys/kernel/osrelease"
quote = shlex.quote


def argv(machine: Machine, command: Sequence[str], user: int | None) -> list[str]:
    """The program that enters ``machine`` and runs ``command`` there, as root or as ``user``."""
    inner = machine.folder / "enter.sh"
    inner.write_text("\n".join(mounts(machine, command, None if machine.rootless else user)) + "\n", encoding="utf-8")
    network = [] if machine.connected else ["--net"]
    if not machine.rootless:
        return ["unshare", "--mount", *network, "--propagation", "private", "bash", str(inner)]
    enter = ["unshare", "--user", "--map-root-user", "--mount", *network, "bash", str(inner)]
    if os.geteuid() != 0:
        return enter
    outer = machine.folder / "become.sh"
    outer.write_text("\n".join(["set -e", *opened_interpreter(), f"exec {as_user(machine.rootless, enter)}"]) + "\n")
    return ["unshare", "--mount", "--propagation", "private", "bash", str(outer)]


def as_user(user: int, command: Sequence[str]) -> str:
    return f"setpriv --reuid {user} --regid {user} --clear-groups -- {' '.join(map(quote, command))}"


def mounts(machine: Machine, command: Sequence[str], user: int | None) -> Iterator[str]:
    yield "set -e"
    if user is not None:
        yield from opened_interpreter()
    for top in ("usr", "etc"):
        yield _overlay(machine, top)
    for kind, mount in (KERNEL_FOLDERS | EXTRA_FOLDERS).items():
        if kind in KERNEL_FOLDERS or machine.files[kind]:
            yield from _kernel_folder(machine, kind, mount)
    if machine.release:
        (machine.folder / "osrelease").write_text(machine.release + "\n", encoding="utf-8")
        yield f"mount --bind {quote(str(machine.folder / 'osrelease'))} {OSRELEASE}"
    yield from _private_dev(machine)
    yield from (" ".join(map(quote, step)) for step in machine.steps)
    yield f"cd {quote(str(machine.folder / 'home'))}"
    yield f"exec {' '.join(map(quote, command)) if user is None else as_user(user, command)}"


def opened_interpreter() -> Iterator[str]:
    """Lead a plain user to a Python that lies in root's closed home folder: mount it under an open one."""
    base = Path(sys.base_prefix)
    closed = [folder for folder in base.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if closed:
        hold = "/mnt"
        yield f"mount --bind {quote(str(base))} {hold}"
        yield f"mount -t tmpfs -o mode=755 lab {quote(str(closed[-1]))}"
        yield f"mkdir -p {quote(str(base))}"
        yield f"mount --bind {hold} {quote(str(base))}"
        yield f"umount {hold}"


def _overlay(machine: Machine, top: str) -> str:
    upper, work = machine.folder / top, machine.folder / f"{top}.work"
    options = f"lowerdir=/{top},upperdir={upper},workdir={work}" + (",userxattr" if machine.rootless else "")
    return f"mount -t overlay lab -o {options} /{top}"


def _kernel_folder(machine: Machine, kind: str, mount: str) -> Iterator[str]:
    yield f"mount -t tmpfs lab {mount}"
    for name, content in machine.files[kind].items():
        yield f"mkdir -p {quote(os.path.dirname(f'{mount}/{name}'))}"
        yield f"printf %s {quote(content)} >{quote(f'{mount}/{name}')}"
    for name, target in machine.links.get(kind, {}).items():
        yield f"ln -s {quote(target)} {quote(f'{mount}/{name}')}"


def _private_dev(machine: Machine) -> Iterator[str]:
    dev = machine.folder / "dev"
    yield f"mount -t tmpfs lab {dev}"
    for name in NODES:
        yield f"touch {dev}/{name} && mount --bind /dev/{name} {dev}/{name}"
    for name, (mode, major, minor) in machine.nodes.items():
        if machine.rootless:
            yield f"touch {dev}/{name} && mount --bind /dev/null {dev}/{name}"
        else:
            yield f"mknod -m {mode:o} {dev}/{name} c {major} {minor}"
    yield from (f"touch {dev}/{name}" for name in machine.plain_files_in_dev)
    yield f"mkdir {dev}/shm && mount --rbind {dev} /dev"
