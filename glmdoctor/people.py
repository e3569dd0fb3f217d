"""Who else uses a machine: names that no report and no snapshot tells, as words and within names (cuda-NAME).

A name that is a word of every report (``test``, ``cuda``, ``max``) tells nothing where it stands alone, and stays; in
``/home/test`` it goes all the same.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path

from glmdoctor.private import telling, within

PASSWORDS = "/etc/passwd"  # read as a file: a lookup may ask a directory server, over the network
FIRST_PERSON, NOBODY = 1000, 65534  # user ids below are the system's
OF_NOBODY = re.compile(r"/?|/(?:nonexistent|dev|proc|run|var|usr|bin|sbin)(?:/.*)?")  # home folders
HOMES = ("/home", "/Users")
IN_PATHS = re.compile(r"(?:/(?:home|Users|run/user|run/media)/|\\Users\\+)([\w.+-]+)", re.IGNORECASE)
MOST = 20_000  # names of one machine
# The words of every report: what the doctor itself says, and Python's modules.
WORDS = tuple(Path(__file__).with_name(folder) / name for folder, name in
              (("messages", "zh.json"), ("knowledge", "problems.json")))  # fmt: skip
NUMBER = re.compile(r"[0-9a-f]{1,2}|[0-9a-f]*[0-9][0-9a-f]*")  # such as cards, addresses and errors have
PIECE = re.compile(r"[^\W_]+")


def of_this_machine() -> frozenset[str]:
    """Those of the password database who have the home of a person, and the names of the folders for homes."""
    names = set(_of_database(_read(PASSWORDS)))
    for folder in HOMES:
        try:
            names.update(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
        except OSError:
            continue
    return frozenset(sorted(names)[:MOST])


def in_paths(text: str) -> frozenset[str]:
    """Whose home folders a text names."""
    return frozenset(name.rstrip(".") for name in IN_PATHS.findall(text))


@lru_cache(maxsize=8)
def hiding(names: frozenset[str], mark: str) -> Callable[[str], str]:
    """A function that puts ``mark`` in the place of every name that tells something."""
    found = [name for name in telling(names) if not _is_a_word(name.lower())]
    plain = {name.lower() for name in found if PIECE.fullmatch(name)}
    odd = [within(name) for name in found if name.lower() not in plain]  # zhang.san, li-wei

    def hide(text: str) -> str:
        for pattern in odd:
            text = pattern.sub(lambda _: mark, text)
        return PIECE.sub(lambda piece: mark if piece.group().lower() in plain else piece.group(), text)

    return hide if found else lambda text: text


def _of_database(text: str) -> Iterable[str]:
    for line in text.splitlines():
        name, _, number, *_, home, _ = (line.split(":") + [""] * 7)[:7]
        if number.isdigit() and FIRST_PERSON <= int(number) != NOBODY and not OF_NOBODY.fullmatch(home):
            yield from (name, os.path.basename(home.rstrip("/")))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _is_a_word(name: str) -> bool:
    return name in _words() or name in sys.stdlib_module_names or bool(NUMBER.fullmatch(name))


@cache
def _words() -> frozenset[str]:
    return frozenset(word for path in WORDS for word in re.findall(r"[a-z0-9]{3,}", _read(str(path)).lower()))
