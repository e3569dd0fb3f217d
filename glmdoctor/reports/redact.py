"""What may leave this machine in a report that people paste: an allow-list for paths and addresses.

A path is kept where it lies in a system folder, shortened to ``~`` below the user's home, and otherwise cut to its
last part. Of an address only the well-known public hosts stay. Names of users and machine go where they stand alone.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from glmdoctor.people import hiding, in_paths, of_this_machine
from glmdoctor.private import redacted, telling, within

MARK = "[name]"
SYSTEM_FOLDERS = re.compile(
    r"/(?:bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|run|sbin|sys|usr|opt/(?:conda|cuda|nvidia|rocm))(?:/|$)"
)
# Below these lie folders that are called like people.
OF_PEOPLE = re.compile(r"/(?:home|Users|run/user|run/media|var/spool/cron)/[^/]+/?", re.IGNORECASE)
WINDOWS_FOLDERS = ("c:\\program files", "c:\\windows")
NAME = r"[\w.+@%~<>*-]+"
PATH = re.compile(
    rf"(?:(?<![\w./~-])|(?<=(?<!\w)-[BILR]))"  # not within a relative path; compilers take folders without a blank
    rf"/(?:{NAME}(?: {NAME}){{0,3}}/)*{NAME}/?"  # a blank belongs to a path where another slash follows
)
WINDOWS_PATH = re.compile(
    r"(?<!\w)((?:[A-Za-z]:|\\\\[\w.$-]+)\\(?:[^\s\\/'\"<>|:;,]+(?: [^\s\\/'\"<>|:;,]+){0,3}[\\/])*[^\s\\/'\"<>|:;,)]*)"
)
LONG_KEY = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{40,}\b")


@dataclass(frozen=True)
class Redactor:
    """Removes from text what tells who and where the user is."""

    home: str = ""
    names: tuple[str, ...] = field(default=())
    others: frozenset[str] = field(default=frozenset())  # who use the machine besides

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str] = os.environ) -> Redactor:
        home = os.path.expanduser("~")
        host = socket.gethostname()
        users = [environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
        candidates = {os.path.basename(home), *users, host, host.split(".")[0]}
        return cls("" if home in ("/", "~", "") else home, tuple(telling(candidates)), of_this_machine())

    def __call__(self, text: str) -> str:
        return redacted(text, self._without_own)

    def _without_own(self, text: str) -> str:
        named_in_it = hiding(in_paths(text), MARK)
        text = LONG_KEY.sub("[secret]", text)
        if self.home:
            text = re.sub(re.escape(self.home) + r"(?![\w.-])", "~", text)
        text = WINDOWS_PATH.sub(self._windows_path, PATH.sub(self._path, text))
        for name in self.names:
            text = within(name).sub(MARK, text)
        return named_in_it(hiding(self.others, MARK)(text))

    @staticmethod
    def _path(match: re.Match[str]) -> str:
        path = match.group()
        if OF_PEOPLE.fullmatch(path):
            return f"…/{MARK}"
        if SYSTEM_FOLDERS.match(path) and not OF_PEOPLE.match(path):
            return path
        last = path.rstrip("/").rsplit("/", 1)[-1]
        return path if path.count("/") == 1 else f"…/{last}"

    @staticmethod
    def _windows_path(match: re.Match[str]) -> str:
        path = match.group()
        if path.lower().startswith(WINDOWS_FOLDERS):
            return path
        parts = re.split(r"[\\/]", path.rstrip("\\/"))
        return "…\\" + (MARK if len(parts) == 3 and parts[1].lower() == "users" else parts[-1])
