"""Tracebacks as fields: where what was raised.

The frames of Python, of rich's boxes and of Jupyter name a file and a function, each in a form of its own; behind them
stands an exception, whose message may be in any language, or cut. What they say together is written as one sentence,
`raised: OSError in ctypes/__init__.py LoadLibrary < quantization.py __init__`, innermost first, for signatures to name.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from string import ascii_letters, digits

DEPTH = 4  # frames of a sentence
MOST = 400  # of the frames and of the exceptions that are read of one page
FRAME = re.compile(r"\.py(?:', line \d{1,7}|:\d{1,7})?,?\s{1,3}in\s{1,3}([\w.]{1,80})")
RAISED = re.compile(r"E(?:rror|xception)(?=[:\r\n]|\Z)")
PATH, NAME = 240, 80  # characters of a path or an exception's name that are read before what tells it
AROUND_PATHS = " '\"\n\r<>|"
IN_NAMES = ascii_letters + digits + "_."
IN_CODE = ("except ", "raise ")  # an exception in a line of code is not yet one
INSTALLED = ("site-packages/", "dist-packages/")
REMOTE = "transformers_modules/"
SENTENCE = "raised: "


def with_fields(text: str) -> str:
    """The text with a sentence behind each exception that has frames above it."""
    pieces, end = [], 0
    for place, sentence in _sentences(text):
        pieces += [text[end:place], "\r", sentence]
        end = place
    return "".join(pieces) + text[end:] if pieces else text


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Where each sentence belongs, at the end of its exception's line, and what it says."""
    found = list(islice(FRAME.finditer(text), MOST))
    if found:
        found += islice(RAISED.finditer(text, found[0].end()), MOST)
    frames: deque[re.Match[str]] = deque(maxlen=DEPTH)
    for match in sorted(found, key=re.Match.start):
        if match.re is FRAME:
            frames.append(match)
        elif frames and (name := _exception(text, match)):
            line_end = text.find("\n", match.end())
            place = line_end if line_end >= 0 else len(text)
            yield place, f"{SENTENCE}{name} in " + " < ".join(_frame(text, frame) for frame in reversed(frames))
            frames.clear()


def _frame(text: str, frame: re.Match[str]) -> str:
    before = text[max(0, frame.start() - PATH) : frame.start()]
    start = max(map(before.rfind, AROUND_PATHS)) + 1
    return f"{_module(before[start:])}.py {frame[1].rpartition('.')[2]}"


@lru_cache(4096)
def _module(path: str) -> str:
    """A file without its ending, as its package names it; code that came with a model, or alone, by its name.

    A package's own file is named with its folder: ``ctypes/__init__``.
    """
    path = path.replace("\\", "/")
    for folder in INSTALLED:
        if folder in path and REMOTE not in path:
            return path.rpartition(folder)[2]
    above, _, name = path.rpartition("/")
    return name if name != "__init__" else f"{above.rpartition('/')[2]}/{name}"


def _exception(text: str, match: re.Match[str]) -> str:
    """Its name without its module; none where the words only look like one."""
    before = text[max(0, match.start() - NAME) : match.start()]
    rest = before.rstrip(IN_NAMES)
    name = (before[len(rest) :] + match[0]).rpartition(".")[2]
    return name if name[0].isupper() and not rest.endswith(IN_CODE) else ""
