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

SYSTEM_FOLDERS = re.compile(
    r"/(?:bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|run|sbin|sys|usr|opt/(?:conda|cuda|nvidia|rocm))(?:/|$)"
)
WINDOWS_FOLDERS = ("c:\\program files", "c:\\windows")
PUBLIC_HOST = re.compile(
    r"(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com|modelscope\.cn|github\.com|pypi\.org|pytorch\.org|nvidia\.com"
    r"|(?:download|docs)\.pytorch\.org|(?:docs|developer|developer\.download)\.nvidia\.com|conda\.anaconda\.org)"
)
COMMON_NAME = re.compile(r"root|user|admin|ubuntu|debian|nobody|localhost|cuda|nvidia|python|torch|linux|windows")

URL = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]*)://([^\s/'\"<>)\]]*)([^\s'\"<>)\]]*)")
PATH = re.compile(r"(?<![\w./~:-])(/[\w.+@%~<>-]+(?:/[\w.+@%~*<>-]+)*/?)")
WINDOWS_PATH = re.compile(r"(?<!\w)([A-Za-z]:\\[^\s'\"<>|:;,)]+)")
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b")
ADDRESS = re.compile(
    r"(?<![\d.])(?:10|127|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b(?![.\d])"  # private networks
    r"|(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?=:\d)"  # with a port; without one it may be a version
    r"|\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"  # of a network card
    r"|(?<![\w:])(?=[0-9a-fA-F:]*[0-9a-fA-F]{3})[0-9a-fA-F]{1,4}:(?:[0-9a-fA-F]{0,4}:){2,6}[0-9a-fA-F]{1,4}(?![\w:])"
)
TOKEN = re.compile(
    r"\b(?:hf_|sk-|ghp_|gho_|github_pat_|glpat-|AKIA|xox[bp]-)[\w-]{8,}|\b(?=\w*\d)(?=\w*[A-Za-z])\w{40,}\b"
)
SECRET = re.compile(
    r"(?i)([\w-]*(?:api[_-]?key|token|secret|password|passwd|authorization)\s*[=:]\s*)(?:bearer\s+)?[^\s'\"]+"
)


@dataclass(frozen=True)
class Redactor:
    """Removes from text what tells who and where the user is."""

    home: str = ""
    names: tuple[str, ...] = field(default=())

    @classmethod
    def of_this_machine(cls, environ: Mapping[str, str] = os.environ) -> Redactor:
        home = os.path.expanduser("~")
        candidates = {
            os.path.basename(home),
            environ.get("USER", ""),
            environ.get("LOGNAME", ""),
            environ.get("USERNAME", ""),
        }
        host = socket.gethostname()
        candidates |= {host, host.split(".")[0]}
        names = sorted(
            (n for n in candidates if len(n) > 2 and not COMMON_NAME.fullmatch(n.lower())), key=len, reverse=True
        )
        return cls("" if home in ("/", "~", "") else home, tuple(names))

    def __call__(self, text: str) -> str:
        text = SECRET.sub(r"\1[secret]", text)
        text = TOKEN.sub("[secret]", text)
        text = URL.sub(self._url, text)
        text = EMAIL.sub("[address]", text)
        if self.home:
            text = re.sub(re.escape(self.home) + r"(?![\w.-])", "~", text)
        text = PATH.sub(self._path, text)
        text = WINDOWS_PATH.sub(self._windows_path, text)
        text = ADDRESS.sub("[address]", text)
        for name in self.names:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "[name]", text)
        return text

    @staticmethod
    def _url(match: re.Match[str]) -> str:
        scheme, host, _ = match.groups()
        return match.group() if PUBLIC_HOST.fullmatch(host) else f"{scheme}://[address]"

    @staticmethod
    def _path(match: re.Match[str]) -> str:
        path = match.group()
        if SYSTEM_FOLDERS.match(path):
            return path
        last = path.rstrip("/").rsplit("/", 1)[-1]
        return path if path.count("/") == 1 else f"…/{last}"

    @staticmethod
    def _windows_path(match: re.Match[str]) -> str:
        path = match.group()
        return path if path.lower().startswith(WINDOWS_FOLDERS) else "…\\" + path.rstrip("\\").rsplit("\\", 1)[-1]
