"""Markdown on a real pseudo-terminal: what is left when an answer has come is what the whole of it looks like."""

from __future__ import annotations

import io
import json
import re
import sys

import pexpect
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from glmcore.cli.markdown import Prose, whole_blocks

ROWS, COLUMNS = 12, 40
ANSWER = (
    """\
# 显存不够

The *driver* was **upgraded by half**: `libcuda.so.1` leads
astray, see [the notes](https://example.org/a). Use `List<T>` or List<String>.

1. First 安装驱动程序安装驱动程序安装驱动程序安装驱动程序
2. Second

   ```python
   def f(x: int) -> int:
       return x
   ```
3. Third
   * nested

| card | memory |
|------|-------:|
| P4   | 8 GiB  |

```
"""
    + "".join(f"line {number}\n" for number in range(30))
    + """\
```

> quoted
> twice

Line one
行二

---

The end."""
)
FEED = """
import json, sys
from glmcore.cli.display import display
shown = display("glm")
shown.begin()
for piece in json.loads(sys.argv[1]):
    shown.say(piece)
shown.end()
"""


def left_on_screen(output: str) -> list[str]:
    """The lines that a terminal of so many rows holds above its cursor, those that it scrolled away too."""
    lines, row = [""], 0
    for part in re.findall(r"[^\x1b\r\n]+|\x1b\[[?\d;]*[A-Za-z]|\r|\n", output):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b") and part.endswith("A"):
            row = max(row - int(part[2:-1]), len(lines) - ROWS)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    assert not any(lines[row:])
    return [line.rstrip() for line in lines[:row]]


def drawn_at_once(text: str) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=COLUMNS, force_terminal=False).print(Prose(text))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def without_more_blanks(lines: list[str]) -> list[str]:
    """One between two texts, as rich has more around some blocks."""
    return [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]


def shown(pieces: list[str], **variables: str) -> str:
    child = pexpect.spawn(
        sys.executable, ["-c", FEED, json.dumps(pieces)], encoding="utf-8", dimensions=(ROWS, COLUMNS), timeout=60,
        env={"TERM": "xterm", "LANG": "C.UTF-8", "PATH": "/usr/bin", **variables},
    )  # fmt: skip
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return child.before


@pytest.mark.parametrize("size", [1, 7, 200])
def test_what_is_left_is_the_answer(size: int) -> None:
    output = shown([ANSWER[at : at + size] for at in range(0, len(ANSWER), size)])
    assert "\x1b[1m" in output and "\x1b[?25h" in output  # bold; the cursor shows again
    lines = left_on_screen(output)
    assert lines[0] == "glm>"
    assert without_more_blanks(lines[1:]) == without_more_blanks(drawn_at_once(ANSWER))
    text = " ".join(lines)
    assert output.count("The end.") <= 2  # as it grew, and for good
    assert "List<String>" in text and "https://example.org/a" in text and "line 29" in text
    assert "Line one" in lines and "行二" in lines


def test_a_terminal_is_not_commanded_by_an_answer() -> None:
    evil = "a\x1b]52;c;ZWNobw==\x07b \x9b31m\x07 **c**"
    for terminal in ("xterm", "dumb"):
        output = shown([evil], TERM=terminal)
        assert "\x07" not in output and "\x9b" not in output and "\x1b]" not in output and "]52;c;ZWNobw==b" in output


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab \n\t*_`#>-+1.|:[](!)<&;\\~=中"), max_size=60), st.integers(0, 60))
def test_any_text_is_drawn_and_its_blocks_are_whole(text: str, at: int) -> None:
    size = whole_blocks(text[:at])
    assert size == 0 or text[:at][size - 1] == "\n"
    drawn_at_once(text)
