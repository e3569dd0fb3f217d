"""Reading from and writing to the terminal or a pipe, whatever the encoding."""

from __future__ import annotations

import os
import sys

CLOSED_PIPE = 141  # 128 + SIGPIPE; Windows has no such signal


def piped_text() -> str | None:
    """All of standard input where it is no terminal, else None."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")


def write_through(piece: str) -> None:
    """Print at once; what the terminal's encoding lacks is shown as a question mark, not as a failure."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(piece.encode(encoding, errors="replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone: nothing more to say, and nothing left for the interpreter to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None


def read_line(prompt: str) -> str:
    """One line of input. Bytes that are no text become replacement characters instead of ending the chat."""
    line = input(prompt)
    return line.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def use_line_editing() -> None:
    """Arrow keys, history and the right width of Chinese and emoji come from readline, where Python has it."""
    try:
        import readline
    except ImportError:
        return
    readline.set_auto_history(True)
