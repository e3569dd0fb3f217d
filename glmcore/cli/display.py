"""How an answer is shown while it comes: Markdown where the output is a terminal that can, else the text as it is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glmcore.cli.terminal import write_through

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from rich.live import Live

DIM, UNDIM = "\x1b[2m", "\x1b[22m"
REDRAWN_S = 0.08  # between two drawings of a block that grows,
PATIENCE = 10  # and at least so many times what a drawing takes
# What a terminal obeys rather than shows: all control characters but the tabulator and the line's end.
OBEYED = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def display(name: str = "") -> Plain:
    """For one answer on standard output, before which ``name`` is said to speak."""
    can = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return Rendered(name) if can else Plain(name)


class Plain:
    """The text as it is. What a model thinks before it answers is dimmed where the output is a terminal."""

    def __init__(self, name: str) -> None:
        terminal = sys.stdout is not None and sys.stdout.isatty()
        self._marks = (DIM, UNDIM) if terminal else ("", "")
        self._name, self._begun, self._thinking = name, False, False
        self._obeyed = OBEYED if terminal else {}

    def begin(self) -> None:
        """Before the model is asked."""
        if self._name:
            self._begun = True
            write_through(f"{self._name}> ")

    def think(self, thought: str) -> None:
        thought = thought.translate(self._obeyed)
        write_through(thought if self._thinking else self._marks[0] + thought)
        self._thinking = self._begun = True

    def say(self, piece: str) -> None:
        """A piece of the answer."""
        self.end_of_thoughts()
        self._begun = True
        write_through(piece.translate(self._obeyed))

    def end_of_thoughts(self) -> None:
        if self._thinking:
            write_through(f"{self._marks[1]}\n\n")
            self._thinking = False

    def end(self) -> None:
        """After the last piece, also of an answer that was stopped."""
        self.end_of_thoughts()
        if self._begun:
            write_through("\n")


class Rendered(Plain):
    """Markdown: a block that is whole is printed for good, the one that still grows is drawn anew below it."""

    def __init__(self, name: str) -> None:
        from rich.console import Console  # here, since pipes need none of it

        super().__init__(name)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(file=sys.stdout, force_terminal=True, force_interactive=True, highlight=False)
        self._live: Live | None = None
        self._growing, self._next = "", 0.0
        self._printed = False

    def begin(self) -> None:
        if self._name:
            write_through(f"{self._name}> \n")

    def say(self, piece: str) -> None:
        from glmcore.cli.markdown import whole_blocks

        self.end_of_thoughts()
        self._growing += piece.translate(self._obeyed)
        if "\n" in piece and (size := whole_blocks(self._growing)):
            self._print(self._growing[:size])
            self._growing = self._growing[size:]
        if time.monotonic() >= self._next:
            self._draw()

    def end(self) -> None:
        self.end_of_thoughts()
        if self._growing.strip():
            self._print(self._growing)
        if self._live is not None:
            self._live.stop()

    def _print(self, blocks: str) -> None:
        from glmcore.cli.markdown import Blocks

        live = self._drawing()
        with self._console:  # shown at once
            live.update("", refresh=True)
            self._console.print(Blocks(blocks, blank=self._printed, fitting=False), end="")
        self._printed = True

    def _draw(self) -> None:
        from glmcore.cli.markdown import Blocks

        began = time.monotonic()
        self._drawing().update(Blocks(self._growing, blank=self._printed, fitting=True), refresh=True)
        ended = time.monotonic()
        self._next = ended + max(REDRAWN_S, PATIENCE * (ended - began))

    def _drawing(self) -> Live:
        """What is drawn anew; from the first piece on."""
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        return self._live


@contextmanager
def unseen_keys() -> Iterator[None]:
    """What is typed in the meantime does not show among what is drawn; it waits for the next prompt. Ctrl-C works."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    termios.tcsetattr(keyboard, termios.TCSANOW, [*before[:3], before[3] & ~termios.ECHO, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)
