"""An answer's Markdown as a terminal shows it: which blocks of it are whole, and how they look."""

from __future__ import annotations

from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown
from rich.segment import Segment

PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
CODE_COLOURS = "ansi_dark"  # the terminal's own sixteen, on its own background


class LeftHeading(Heading):
    """Where the text is, in any size."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class Prose(Markdown):
    """Markdown as answers mean it: every line break is one, a tag such as ``<T>`` is text, a link shows its address."""

    elements: ClassVar = {**Markdown.elements, "heading_open": LeftHeading}

    def __init__(self, text: str) -> None:
        super().__init__("", code_theme=CODE_COLOURS, hyperlinks=False)
        self.markup, self.parsed = text, PARSER.parse(text)
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"


class Blocks:
    """Markdown without blank lines around it; after ``blank``, one before it. rich has some around lists and tables.

    fitting: no more of it, from its end, than a terminal can draw anew.
    """

    def __init__(self, text: str, blank: bool, fitting: bool) -> None:
        self.text, self.blank, self.fitting = text, blank, fitting

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [trimmed(line) for line in console.render_lines(Prose(self.text), options, pad=False)]
        shown = [number for number, line in enumerate(lines) if line]
        lines = lines[shown[0] : shown[-1] + 1] if shown else []
        lines = [[], *lines] if self.blank and lines else lines
        for line in lines[-max(1, options.size.height - 2) :] if self.fitting else lines:
            yield from line
            yield Segment.line()


def trimmed(line: list[Segment]) -> list[Segment]:
    """Without the blanks at its end, which who copies it would get."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


def whole_blocks(text: str) -> int:
    """How many characters of ``text`` are blocks that nothing after it can change: those before its last block.

    A line that has not ended may become anything, and decides nothing yet. ``text`` has no carriage returns.
    """
    lines = text.split("\n")[:-1]
    tokens = PARSER.parse("\n".join(lines))
    starts = [token.map[0] for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]
    return sum(len(line) + 1 for line in lines[: starts[-1]]) if len(starts) > 1 else 0
