"""This user's folders, and whether anybody else could change what lies in them. Imports no torch.

Root takes its folders from HOME, XDG's variables and ZDOTDIR only where root alone can change them: ``sudo -E`` and
containers leave another user's there. Else they lie in the home that the password database gives.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Literal

Kind = Literal["cache", "data", "state"]
BELOW_HOME = {"cache": ".cache", "data": ".local/share", "state": ".local/state"}
EVERY_USER = "4294967295"  # the size of a map that leaves no user out
# O_PATH: a folder is looked at that may be passed through and not read.
LOOK = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def user_folder(kind: Kind, program: str) -> str | None:
    """Where ``program`` keeps its cache, data or state of this user; None where there is no such folder."""
    import platformdirs  # here, since every start of a program imports this module

    try:
        folder = getattr(platformdirs, f"user_{kind}_dir")(program, appauthor=False)
    except RuntimeError:  # as platformdirs 4.4 and later have it without a home; before that the path was relative
        folder = ""
    if is_root() and (not os.path.isabs(folder) or who_else(os.path.realpath(folder))):
        home = home_of_root()
        folder = os.path.realpath(os.path.join(home, BELOW_HOME[kind], program)) if home else ""
        if not home or who_else(folder):
            return None
    return folder if os.path.isabs(folder) else None


def believed(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` without those that name root's folders where others could change them; HOME is then the right one.

    For any other user all of them.
    """
    if not is_root():
        return dict(variables)
    left = {name: value for name, value in variables.items() if not _names_a_folder(name) or not _astray(value)}
    if "HOME" in variables and "HOME" not in left:
        left["HOME"] = home_of_root() or "/"
    return left


def _names_a_folder(variable: str) -> bool:
    return variable in ("HOME", "ZDOTDIR") or variable.startswith("XDG_")


def _astray(value: str) -> bool:
    """Could others change one of these folders? What is no absolute path names none."""
    return any(who_else(os.path.realpath(folder)) for folder in value.split(os.pathsep) if os.path.isabs(folder))


def is_root() -> bool:
    """Is this the machine's root? Root of a user namespace is an ordinary user outside of it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() in (["0", "0", EVERY_USER], [])
    except OSError:
        return True


def who_else(path: str) -> str | None:
    """Who but root could change what lies at an absolute ``path``, in words; None where nobody could.

    Every folder from ``/`` on is opened without following a link and judged by its descriptor. In a sticky folder
    nobody can replace what is root's, but anybody can make what is not there yet; elsewhere that is root's to make.
    """
    here, place = "/", os.open("/", LOOK)
    try:
        parts = [part for part in path.split("/") if part]
        while True:
            status = os.fstat(place)
            doubt = _doubt(status)
            if doubt:
                return f"{here} {doubt}"
            if not parts:
                return None
            here = os.path.join(here, parts[0])
            try:
                below = os.open(parts.pop(0), LOOK, dir_fd=place)
            except FileNotFoundError:
                return f"{here} could be made by others" if _by_others(status) else None
            except OSError as error:
                return f"{here}: {error.strerror}"
            os.close(place)
            place = below
    finally:
        os.close(place)


def _doubt(status: os.stat_result) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if status.st_uid != 0:
        return f"belongs to user {status.st_uid}"
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return "can be changed by others" if _by_others(status) and not sticky else None


def _by_others(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != 0))


def home_of_root() -> str:
    """As the password database has it; "" where it knows no root."""
    import pwd

    try:
        return pwd.getpwuid(0).pw_dir
    except KeyError:
        return ""
