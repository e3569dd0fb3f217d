"""What was typed in earlier chats, for the arrow keys: a private file, bounded, one JSON string a line."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path

from glmcore.folders import user_folder
from glmcore.output import replacing

KEPT = 1000  # messages
LONGEST = 2**16  # characters of one
MAX_BYTES = 2**20  # of the file; above it the older half of it is left out
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def history_file() -> Path | None:
    """In the user's state folder; None where there is none."""
    folder = user_folder("state", "glmcore")
    return Path(folder) / "chat_history" if folder else None


class History:
    """The file at ``path``. A chat goes on without one: what cannot be read or written is left out in silence."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def load(self) -> list[str]:
        """The messages, the oldest first."""
        try:
            with open(self._open(), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - MAX_BYTES))
                lines = file.read(MAX_BYTES).decode("utf-8", "replace").split("\n")
        except OSError:
            return []
        messages = [message for line in lines if (message := _message(line)) is not None][-KEPT:]
        if size > MAX_BYTES:
            self._rewrite(messages)
        return messages

    def add(self, message: str) -> None:
        if len(message) > LONGEST:
            return
        with suppress(OSError), open(self._open(), "ab") as file:
            file.write(_line(message))

    def _open(self) -> int:
        """A descriptor of the file, which is a regular one, the user's own and readable by nobody else."""
        if self.path is None:
            raise FileNotFoundError
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, FLAGS, 0o600)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or (hasattr(os, "geteuid") and facts.st_uid != os.geteuid()):
            os.close(descriptor)
            raise PermissionError
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        return descriptor

    def _rewrite(self, messages: list[str]) -> None:
        assert self.path is not None
        lines = [_line(message) for message in messages]
        while sum(map(len, lines)) > MAX_BYTES // 2:
            del lines[: len(lines) // 2 + 1]
        with suppress(OSError), replacing(self.path) as file:
            file.writelines(lines)


def _line(message: str) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _message(line: str) -> str | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, str) else None
