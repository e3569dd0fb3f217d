"""Reading from and writing to the terminal or a pipe, whatever the encoding."""

from __future__ import annotations

import os
import sys

from glmcore.cli.history import KEPT, History
from glmcore.errors import GlmError

CLOSED_PIPE = 141  # 128 + SIGPIPE; Windows has no such signal


def piped_text() -> str | None:
    """All of standard input where it is no terminal, else None."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")


def say(answer: str) -> None:
    """Print what a command was asked for, with a line break."""
    write_through(answer + "\n")


def write_through(piece: str) -> None:
    """Print at once; what the terminal's encoding lacks is shown as a question mark, not as a failure.

    Errors: GlmError("write-failed") where nothing can be written, as on a full disk.
    """
    if sys.stdout is None:
        raise GlmError("write-failed", "standard output is closed")
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(piece.encode(encoding, errors="replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone: nothing more to say, and nothing left for the interpreter to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None
    except OSError as error:
        raise GlmError("write-failed", f"could not write: {error.strerror}", where="standard output") from error


def read_line(prompt: str) -> str:
    """One line of input. Bytes that are no text become replacement characters instead of ending the chat."""
    line = input(prompt)
    return line.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


class LineEditing:
    """Arrow keys, the right width of Chinese and emoji, and pasting many lines as one come from readline.

    Where Python has none, lines are read as they are. GNU readline knows where a paste ends (Python turns that off);
    with libedit a paste of several lines is as many messages.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        sys.stdin.reconfigure(errors="surrogateescape")
        try:
            import readline
        except ImportError:
            self._remember = None
            return
        readline.parse_and_bind("set enable-bracketed-paste on")
        readline.set_auto_history(False)
        readline.set_history_length(KEPT)
        self._remember = readline.add_history
        for message in history.load():
            self._recall(message)

    def remember(self, message: str) -> None:
        """Keep a message for the arrow keys, of this chat and later ones."""
        self._recall(message)
        self.history.add(message)

    def _recall(self, message: str) -> None:
        if self._remember is not None and "\0" not in message:
            self._remember(message)
