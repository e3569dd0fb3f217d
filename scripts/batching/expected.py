"""What drafts are worth by what steps cost, without a model: the engine's own guesses, and texts that are answers."""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable, Iterable, Sequence

from batching import texts
from batching.tasks import COPIES, TALKS
from glmcore import demo
from glmcore.engine.batch.lookup import CHANCES, Lookup
from glmcore.engine.batch.worth import StepCosts, worth
from glmcore.tokenizers import load_tokenizer

# Steps of 2, 4, 8 and 16 rows in steps of one: ChatGLM2-6B int4, two cores of a Zen 4 in the fast state of their memory
# and in the slow one. ``batching.model`` measures them.
COSTS = {
    "fast": {1: 1, 2: 1.63, 4: 2.4, 8: 4.15, 16: 8.0}, "fast, slow memory": {1: 1, 2: 1.4, 4: 1.9, 8: 3.1, 16: 5.6},
    "light": {1: 1, 2: 1.3, 4: 1.5, 8: 2.3, 16: 4.0}, "light, by the layer": {1: 1, 2: 1.32, 4: 1.78, 8: 2.9, 16: 5.1},
}  # fmt: skip
ROOM = 15
LEAST, LONGEST = 12, 100  # tokens of an answer
Encode = Callable[[str], Sequence[int]]


class Words:
    """A double of a large vocabulary: words and pieces of them are tokens."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __call__(self, text: str) -> list[int]:
        words = re.findall(r" ?[A-Za-z]{1,7}| ?[0-9]|\n *| *[^\w\s]|\s|.", text)
        return [self.ids.setdefault(word, len(self.ids)) for word in words]


def gain(prompt: Sequence[int], answer: Sequence[int], cost: StepCosts) -> float:
    """How many times as fast an answer comes with guesses as without; its first token is the prompt's."""
    lookup, done, spent = Lookup([*prompt, answer[0]]), 1, 0.0
    while done < len(answer):
        tokens, chances = lookup.guess(min(ROOM, len(answer) - done - 1))
        [count] = worth(cost, [chances], ROOM)
        right = 0
        while right < count and tokens[right] == answer[done + right]:
            right += 1
        for token in answer[done : done + right + 1]:
            lookup.push(token)
        done += right + 1
        spent += cost(1 + count)
    return (len(answer) - 1) * cost(1) / spent


def gains(of: Iterable[texts.Text], encode: Encode, costs: dict[int, float]) -> list[float]:
    pairs = [(encode(prompt), encode(answer)[:LONGEST]) for prompt, answer in of]
    return [gain(prompt, answer, StepCosts(costs)) for prompt, answer in pairs if len(answer) >= LEAST]


def alike(of: Iterable[texts.Text], encode: Encode) -> str:
    """How often a guess is right after 1, 2-3, 4-7, … tokens alike: what CHANCES were chosen by."""
    seen: list[list[int]] = [[] for _ in CHANCES]
    for prompt, answer in of:
        lookup = Lookup(encode(prompt))
        for token in encode(answer):
            [guessed], level = lookup.guess(1)[0] or [-1], lookup.level()
            if guessed >= 0:
                seen[level].append(guessed == token)
            lookup.push(token)
    return " ".join(f"{statistics.mean(each):.2f} ({len(each)})" if each else "-" for each in seen)


def expected(options: argparse.Namespace) -> None:
    """Gains by each table of costs: the fixed tasks, and both halves of the project's texts."""
    vocabularies: dict[str, Encode] = {"demo": load_tokenizer(demo.folder(), "v2").encode, "words": Words()}
    halves = [(f"half {half}", list(texts.some(texts.COPIES, half)), list(texts.some(texts.TALKS, half)))
              for half in (0, 1)]  # fmt: skip
    sets = [("fixed", list(COPIES.values()), list(TALKS.values())), *halves]
    for name, encode in vocabularies.items():
        for which, copies, talks in sets:
            print(f"{name}, {which}: right after 1, 2-3, 4-7, … tokens alike: copies {alike(copies, encode)}; "
                  f"talk {alike(talks, encode)}")  # fmt: skip
            for table, costs in COSTS.items():
                made = [gains(each, encode, costs) for each in (copies, talks)]
                means = [f"{statistics.geometric_mean(each):.3f} (least {min(each):.2f})" for each in made]
                print(f"  {table}: copies {means[0]}, talk {means[1]}")
