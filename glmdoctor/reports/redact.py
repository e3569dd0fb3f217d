"""What may leave this machine in a report that people paste: an allow-list for paths and addresses.

A path is kept where it lies in a system folder, shortened to ``~`` below the user's home, and otherwise cut to its
last part. Of an address only the well-known public hosts stay. Names of user and machine go where they stand alone.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from glmdoctor.private import without_addresses, without_credentials

SYSTEM_FOLDERS = re.compile(
    r"/(?:bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|run|sbin|sys|usr|opt/(?:conda|cuda|nvidia|rocm))(?:/|$)"
)
# Below these lie folders that are called like people.
OF_PEOPLE = re.compile(r"/(?:home|Users|run/user|run/media|var/spool/cron)/[^/]+/?", re.IGNORECASE)
WINDOWS_FOLDERS = ("c:\\program files", "c:\\windows")
PUBLIC_HOST = re.compile(
    r"(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com|modelscope\.cn|github\.com|pypi\.org|pytorch\.org|nvidia\.com"
    r"|microsoft\.com|python\.org"
    r"|(?:download|docs)\.pytorch\.org|(?:docs|developer|developer\.download)\.nvidia\.com|conda\.anaconda\.org)"
)
# Names that tell nothing about anybody, and occur in every report.
COMMON_NAME = re.compile(
    r"root|user|admin|ubuntu|debian|nobody|localhost|cuda|nvidia|python|torch|linux|windows|conda|docker|jovyan"
    r"|chat|glm|chatglm|glmdoctor|glmcore|model|models|gpu|cpu|test|data|dev|app|work|ai|ml|llm|is|in|of|on|to|no|at|it"
)

URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]{0,30})://([^\s/'\"<>)\]]*)([^\s'\"<>)\]]*)")
NAME = r"[\w.+@%~<>*-]+"
PATH = re.compile(
    rf"(?:(?<![\w./~-])|(?<=(?<!\w)-[BILR]))"  # not within a relative path; compilers take folders without a blank
    rf"/(?:{NAME}(?: {NAME}){{0,3}}/)*{NAME}/?"  # a blank belongs to a path where another slash follows
)
WINDOWS_PATH = re.compile(
    r"(?<!\w)((?:[A-Za-z]:|\\\\[\w.$-]+)\\(?:[^\s\\/'\"<>|:;,]+(?: [^\s\\/'\"<>|:;,]+){0,3}[\\/])*[^\s\\/'\"<>|:;,)]*)"
)
LONG_KEY = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{40,}\b")
# Elsewhere the end of a name tells a machine from a module or a file.
MACHINE = re.compile(
    r"(?<![\w./-])(?:[\w-]+\.)+(?:com|net|org|edu|gov|cn|internal|local|localdomain|lan|corp|intranet)(?![\w/-]|\.\w)"
)


@dataclass(frozen=True)
class Redactor:
    """Removes from text what tells who and where the user is."""

    home: str = ""
    names: tuple[str, ...] = field(default=())

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str] = os.environ) -> Redactor:
        home = os.path.expanduser("~")
        host = socket.gethostname()
        users = [environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")]
        candidates = {os.path.basename(home), *users, host, host.split(".")[0]}
        # One letter alone is a word of every report.
        names = sorted(
            (n for n in candidates if len(n) > 1 and not COMMON_NAME.fullmatch(n.lower())), key=len, reverse=True
        )
        return cls("" if home in ("/", "~", "") else home, tuple(names))

    def __call__(self, text: str) -> str:
        text = LONG_KEY.sub("[secret]", without_credentials(text))
        text = without_addresses(URL.sub(self._url, text))
        if self.home:
            text = re.sub(re.escape(self.home) + r"(?![\w.-])", "~", text)
        text = PATH.sub(self._path, text)
        text = WINDOWS_PATH.sub(self._windows_path, text)
        for name in self.names:
            text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", "[name]", text, flags=re.IGNORECASE)
        return MACHINE.sub(self._machine, text)

    @staticmethod
    def _url(match: re.Match[str]) -> str:
        scheme, host, path = match.groups()
        if scheme == "file":
            return f"file:{path}"
        return match.group() if PUBLIC_HOST.fullmatch(host) else f"{scheme}://[address]"

    @staticmethod
    def _machine(match: re.Match[str]) -> str:
        return match.group() if PUBLIC_HOST.fullmatch(match.group()) else "[address]"

    @staticmethod
    def _path(match: re.Match[str]) -> str:
        path = match.group()
        if OF_PEOPLE.fullmatch(path):
            return "…/[name]"
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
        return "…\\" + ("[name]" if len(parts) == 3 and parts[1].lower() == "users" else parts[-1])
