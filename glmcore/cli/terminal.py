"""Reading from and writing to the terminal or a pipe, whatever the encoding."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from glmcore.cli.history import KEPT, History
from glmcore.errors import GlmError

CLOSED_PIPE = 141  # 128 + SIGPIPE; Windows has no such signal
GNU_KEYS = ("set enable-bracketed-paste on", "set show-all-if-ambiguous on", "tab: complete")
LIBEDIT_KEYS = ("bind ^I rl_complete", "bind ^R em-inc-search-prev")


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
    """Arrow keys, search with Ctrl-R, completion with Tab, the right width of Chinese and emoji, and pasting many lines
    as one come from readline.

    Where Python has none, lines are read as they are. GNU readline knows where a paste ends (Python turns that off);
    with libedit a paste of several lines is as many messages.
    """

    def __init__(self, history: History, completions: Callable[[str], list[str]]) -> None:
        self.history, self._completions = history, completions
        sys.stdin.reconfigure(errors="surrogateescape")
        try:
            import readline
        except ImportError:
            self._readline = None
            return
        self._readline = readline
        gnu = "libedit" not in (readline.__doc__ or "")
        for line in GNU_KEYS if gnu else LIBEDIT_KEYS:
            readline.parse_and_bind(line)
        readline.set_completer_delims(" /")
        readline.set_completer(self._complete)
        readline.set_auto_history(False)
        readline.set_history_length(KEPT)
        for message in history.load():
            self._recall(message)

    def remember(self, message: str) -> None:
        """Keep a message for the arrow keys, of this chat and later ones."""
        self._recall(message)
        self.history.add(message)

    def _recall(self, message: str) -> None:
        if self._readline is not None and "\0" not in message:
            self._readline.add_history(message)

    def _complete(self, word: str, number: int) -> str | None:
        """readline asks for the first, second, … word that may stand in place of ``word``; in a question, a tab."""
        before = self._readline.get_line_buffer()[: self._readline.get_endidx()]
        kept = len(before) - len(word)
        found = [line[kept:] for line in self._completions(before)] if before.startswith("/") else [f"{word}\t"]
        return found[number] if number < len(found) else None
