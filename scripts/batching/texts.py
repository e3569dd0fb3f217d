"""Questions and answers from this project's documents and code, to weigh drafts by: copies with changes, and talk."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Text = tuple[str, str]  # a prompt and its answer
LOG = '        log.debug("now at %s", self)'


def paragraphs() -> list[str]:
    """Prose of the documents, without tables and code."""
    text = "\n\n".join(path.read_text("utf-8") for path in sorted(ROOT.glob("docs/*.md")))
    return [each for each in text.split("\n\n") if 300 < len(each) < 1400 and each.count("|") < 3 and each[0] != " "]


def methods() -> list[str]:
    code = (path.read_text("utf-8") for path in sorted(ROOT.glob("glmcore/**/*.py")))
    found = (each for text in code for each in re.findall(r"(?ms)^    def .*?(?=^    def |^class |^def |\Z)", text))
    return [each for each in found if 250 < len(each) < 1500]


def usual(text: str) -> str:
    """The word of some length that it has most often."""
    words = re.findall(r"\b[a-z]{4,}\b", text)
    return max(sorted(set(words)), key=words.count)


def renamed(text: str, name: str) -> str:
    return re.sub(rf"\b{usual(text)}\b", name, text)


def typos(text: str) -> str:
    words = text.split(" ")
    return " ".join(word[::-1] if place % 17 == 5 else word for place, word in enumerate(words))


def logged(code: str) -> str:
    lines = code.split("\n")
    half = len(lines) // 2
    return "\n".join([lines[0], LOG, *lines[1:half], LOG, *lines[half:]])


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.:]) ", text)


COPIES: dict[str, Callable[[str, str], Text]] = {
    "rename": lambda prose, code: (f"Rename {usual(code)} to entry_list:\n{code}", renamed(code, "entry_list")),
    "reword": lambda prose, code: (f"{prose}\nReplace {usual(prose)}.", renamed(prose, "the other one")),
    "insert": lambda prose, code: (f"Log in\n{code}", f"Here it is:\n{logged(code)}"),
    "leave out": lambda prose, code: (f"Without the second sentence: {prose}",
                                      " ".join(sentences(prose)[:1] + sentences(prose)[2:])),
    "correct": lambda prose, code: (f"Correct the spelling: {typos(prose)}", prose),
    "extract": lambda prose, code: (f"{prose}\nWhat is said last?", f'"{" ".join(sentences(prose)[-2:])}"'),
    "quote": lambda prose, code: (f"Quote this: {prose}", f"> {prose}"),
}  # fmt: skip
TALKS: dict[str, Callable[[str, str], Text]] = {
    "prose": lambda prose, code: (f"Tell me about {prose[:25]}", prose),
    "code": lambda prose, code: ("Write a function in Python that does this.", code),
}


def some(makers: dict[str, Callable[[str, str], Text]], half: int, count: int = 12) -> Iterator[Text]:
    """``count`` of each kind, from one ``half`` of all there is (0 or 1): one to choose by, the other to check it."""
    dice = random.Random(3)
    prose, code = (shuffled(each, dice)[half::2] for each in (paragraphs(), methods()))
    for make in makers.values():
        for number in range(count):
            yield make(prose[number], code[number])


def shuffled(texts: Sequence[str], dice: random.Random) -> list[str]:
    return dice.sample(texts, len(texts))
