"""Standard output carries the report alone; everything else goes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from glmcore.errors import plain
from glmdoctor.messages import LONGEST, language_of

if TYPE_CHECKING:
    from glmdoctor.reports.terminal import Line

BAR = 30  # characters
PROBE = "检查"  # what an output must be able to carry for a Chinese report


CLOSED: set[str] = set()  # the streams that were closed before we began


def prepare() -> None:
    """Make both streams safe to write to: never None, never an encoding error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller (`>&-`)
            CLOSED.add(name)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")


def finish() -> None:
    """Flush here, where a reader that has gone is expected, not at interpreter exit, where it would be noisy."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_rest()


def emit(text: str) -> None:
    """Write a report. A reader that closed the pipe has what it wanted: the exit status stays the report's."""
    _emit(lambda: sys.stdout.write(text if text.endswith("\n") or not text else text + "\n"))


def emit_bytes(content: bytes) -> None:
    """Write a script whose paths may be no UTF-8: their bytes as they are."""
    _emit(lambda: sys.stdout.buffer.write(content))


def _emit(write: Callable[[], object]) -> None:
    if "stdout" in CLOSED:
        raise click.ClickException("cannot write the report: standard output is closed")
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_rest()
    except OSError as error:
        _discard_rest()
        raise click.ClickException(f"cannot write the report: {error.strerror}") from error


def write_file(path: str, content: str, errors: str = "backslashreplace") -> None:
    """All of it or nothing where ``path`` is a file or absent; into whatever else lies there.

    Raises ``ClickException`` where that cannot be written.
    """
    from glmcore.errors import GlmError
    from glmcore.output import write_text

    try:
        write_text(path, content, errors=errors)
    except GlmError as error:
        raise click.ClickException(f"cannot write {path}: {error.what.removeprefix('could not write: ')}") from error


def _discard_rest() -> None:
    """What is still buffered goes nowhere, so that no later flush fails again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def note(message: str) -> None:
    """One line of progress or advice, whatever names of files or arguments it holds."""
    print(f"glmdoctor: {plain(message, LONGEST)}", file=sys.stderr, flush=True)


def hear_glmcore() -> None:
    """Pass on what glmcore's parts say, as that a kernel is being compiled, which takes seconds."""
    import logging

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    logging.getLogger("glmcore").handlers = [Notes()]


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on standard error for bytes that are read, where a person watches; it is gone when the work is done."""
    if not sys.stderr.isatty():
        yield None
        return
    shown = -1

    def show(name: str, done: int, total: int) -> None:
        nonlocal shown
        percent = 100 * done // max(total, 1)
        if percent != shown:
            shown = percent
            bar = "#" * (percent * BAR // 100)
            sys.stderr.write(f"\r{bar:-<{BAR}} {percent:3} %  {name[:40]:40}")
            sys.stderr.flush()

    yield show
    if shown >= 0:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def complain(report: str) -> None:
    """A report that stops a command: standard output belongs to the program that would have run."""
    sys.stderr.write(report)
    sys.stderr.flush()


def can_print(sample: str) -> bool:
    try:
        sample.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def language(chosen: str | None, *, ascii_safe: bool = False) -> str:
    """The report's language: ``--lang``, else the locale's; English where the output cannot carry Chinese."""
    wanted = chosen or language_of()
    if wanted == "zh" and not ascii_safe and not can_print(PROBE):
        note(f"this output's encoding ({sys.stdout.encoding}) cannot carry Chinese; the report is in English")
        return "en"
    return wanted


def laid_out(paragraphs: Iterable[Line]) -> str:
    """A report's lines, in colour and wrapped on a terminal, plain in a pipe or a file."""
    from glmdoctor.reports import terminal

    if not sys.stdout.isatty():
        return terminal.plain(paragraphs)
    import shutil

    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return terminal.rich(paragraphs, max(40, shutil.get_terminal_size().columns), colours)
